"""Give what a reduced decoder returns the prompt's length again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import nn

    from framefusion.engine.decoder.forward import Call
    from framefusion.engine.model.parts import Anatomy

ROUTERS = "router_logits"


def expand_outputs(output: Any, call: Call, anatomy: Anatomy) -> Any:
    """Expand every hidden state and all router logits: a column without a slot shows those of what stands for it."""
    states = getattr(output, "hidden_states", None)
    if states is not None:
        output.hidden_states = tuple(
            state if state is None else call.expand_state(number, state) for number, state in enumerate(states)
        )
    logits = getattr(output, ROUTERS, None)
    if logits:
        layers = _layers_with_routers(anatomy, len(logits))
        output.router_logits = tuple(
            call.expand_in_mlp(layer, flat.view(call.batch, -1, flat.shape[-1])).reshape(
                *flat.shape[:-2], -1, flat.shape[-1]
            )
            for layer, flat in zip(layers, logits, strict=True)
        )
    return output


def _layers_with_routers(anatomy: Anatomy, count: int) -> Sequence[int]:
    """The layer each of the `count` returned router logits comes from.

    transformers collects them in the order of the modules it names for it.
    """
    specs = (getattr(anatomy.decoder, "_can_record_outputs", None) or {}).get(ROUTERS, ())
    specs = specs if isinstance(specs, (list, tuple)) else [specs]
    layers = [number for number, block in enumerate(anatomy.blocks) for module in _routers(block.layer, specs)]
    if not specs and count == len(anatomy.blocks):
        layers = list(range(count))
    if len(layers) != count:
        raise UnsupportedModelError(
            f"the router logits of {type(anatomy.decoder).__name__} cannot be given the prompt's length",
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
