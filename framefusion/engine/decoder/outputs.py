"""Give what a reduced decoder returns the prompt's length again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import UnsupportedModelError
from framefusion.engine.model.calls import change_states
from framefusion.engine.sequence.slicing import fold
from framefusion.engine.sequence.state import rows_at

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.decoder.forward import Forward
    from framefusion.engine.model.parts import ModelParts

ROUTERS = "router_logits"


def expand_outputs(output: Any, forward: Forward, parts: ModelParts) -> Any:
    """Expand every hidden state and all router logits: a column without a slot shows those of what stands for it."""
    change_states(output, partial(_expand_state, forward))
    logits = getattr(output, ROUTERS, None)
    if logits:
        layers = _layers_with_routers(parts, len(logits))
        output.router_logits = tuple(
            _expand_in_mlp(forward, layer, flat.view(forward.batch, -1, flat.shape[-1])).reshape(
                *flat.shape[:-2], -1, flat.shape[-1]
            )
            for layer, flat in zip(layers, logits, strict=True)
        )
    return output


def _expand_state(forward: Forward, number: int, state: Tensor) -> Tensor:
    """Entry `number` of the returned hidden states at the prompt's length: 0 is the input of layer 0.

    A state may have been captured before our hook on its layer or behind it. Lengths alone cannot tell the two
    apart, since a batch keeps its length while its longest row loses nothing.
    """
    sequence = forward.entered[0] if number == 0 else forward.left[number - 1]
    if state.ndim > 3:
        flat, shape = fold(state, forward.batch, sequence.length)
        return shape.undo(sequence.expand_to_prompt(flat)) if flat.shape[1] == sequence.length else state
    as_returned = number > 0 and forward.returned[number - 1]() is state
    if number == len(forward.left) and not as_returned:
        return state
    gather = forward.cut_after.get(number - 1)
    if gather is not None and (as_returned or state.shape[1] != sequence.length):
        state = rows_at(state, gather)
    return sequence.expand_to_prompt(state) if state.shape[1] == sequence.length else state


def _expand_in_mlp(forward: Forward, layer: int, values: Tensor) -> Tensor:
    """What the second half of `layer` returned for its slots, (B, K, D), at the prompt's length."""
    if layer in forward.cut_after:
        values = rows_at(values, forward.cut_after[layer])
    return (forward.entered if layer in forward.acted_after else forward.left)[layer].expand_to_prompt(values)


def _layers_with_routers(parts: ModelParts, count: int) -> Sequence[int]:
    """The layer each of the `count` returned router logits comes from.

    transformers collects them in the order of the modules it names for it.
    """
    specs = (getattr(parts.decoder, "_can_record_outputs", None) or {}).get(ROUTERS, ())
    specs = specs if isinstance(specs, (list, tuple)) else [specs]
    layers = [number for number, block in enumerate(parts.blocks) for module in _routers(block.layer, specs)]
    if not specs and count == len(parts.blocks):
        layers = list(range(count))
    if len(layers) != count:
        raise UnsupportedModelError(
            f"the router logits of {type(parts.decoder).__name__} cannot be given the prompt's length",
            f"it returns {count} of them, and {len(layers)} of its layers are known to have a router",
            "drop `output_router_logits`",
        )
    return layers


def _routers(layer: nn.Module, specs: Sequence[Any]) -> Iterator[nn.Module]:
    for name, module in layer.named_modules():
        for spec in specs:
            kind = spec if isinstance(spec, type) else getattr(spec, "target_class", None)
            of_kind = isinstance(module, kind) if kind else type(module).__name__ == getattr(spec, "class_name", None)
            place = getattr(spec, "layer_name", None)
            if of_kind and (place is None or place in name):
                yield module
