"""Hooks on the decoder layers: before a layer, between its attention and its MLP, and after it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.decoder.kv_cache import ReducedLayer
from framefusion.engine.decoder.layer_inputs import fold
from framefusion.engine.decoder.unpadded_keys import tables_of
from framefusion.engine.inputs.refusals import refuse_checkpointing
from framefusion.engine.model.cache_names import CACHE_NAMES, cache_in
from framefusion.engine.model.releases import check_hidden_cache

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.decoder.forward import Call
    from framefusion.engine.model.parts import Anatomy, Block

TAG = "_framefusion_call"
HIDDEN = "hidden_states"
MASK = "attention_mask"
POSITION_IDS, POSITIONS = "position_ids", "position_embeddings"


def hook_layers(anatomy: Anatomy) -> Iterator[Any]:
    """Register all hooks of the decoder layers; yields their handles."""
    for number, block in enumerate(anatomy.blocks):
        names = list(inspect.signature(type(block.layer).forward).parameters)[1:]
        yield block.layer.register_forward_pre_hook(_before_layer(number, block, names), with_kwargs=True)
        if block.attention is not None:
            yield block.attention.register_forward_pre_hook(_before_attention(number), with_kwargs=True)
        else:
            for first in list(block.layer.children()):
                yield first.register_forward_pre_hook(_before_recurrent(number))
        if block.mlp_norm is not None:
            yield block.mlp_norm.register_forward_pre_hook(_before_mlp(number, block))
        yield block.layer.register_forward_hook(_after_layer(number, block))


def _before_layer(number: int, block: Block, names: list[str]) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        call = context.call() or _tagged(kwargs)
        if call is None:
            return None
        hidden = args[0] if args else kwargs[HIDDEN]
        given = {**dict(zip(names[1:], args[1:], strict=False)), **kwargs}
        given.pop(HIDDEN, None)
        if not call.finished:
            call.cache = call.cache or cache_in(given)
            if call.cache is None:
                check_hidden_cache(given, type(module).__name__)
        hidden, call.folds[number] = fold(hidden, call.batch, call.length_before(number))
        hidden = call.before_layer(number, hidden)
        cached = number if block.key_source is None else block.key_source
        reduced = bool(call.entered[number].version) or _is_reduced(call.cache, cached)
        if block.attention is not None and (call.reduces or reduced):
            call.keys_now(number, block.key_source)
        if call.firsts is not None and not call.finished:
            call.tables = tables_of(given)
        if reduced:
            given = _cut_inputs(call, number, block, given)
        if block.mlp_norm is not None:
            given = call.alias_riders(number, given)
        if _checkpoints(block):
            refuse_checkpointing(block, bool(call.planes))
        if torch.is_grad_enabled() or _checkpoints(block):
            # What checkpointing holds is from before this hook or after it, depending on the version of transformers.
            _tag(kwargs, call)
            _tag(given, call)
            if block.attention is None:
                setattr(hidden, TAG, call)
        return (call.folds[number].undo(hidden),), given

    return hook


def _checkpoints(block: Block) -> bool:
    """Whether the layer will run again in the backward pass; its first run may then lie outside autograd."""
    return bool(getattr(block.layer, "gradient_checkpointing", False)) and block.layer.training


def _cut_inputs(call: Call, number: int, block: Block, given: dict[str, Any]) -> dict[str, Any]:
    cut = {}
    for name, value in given.items():
        if name == MASK:
            cut[name] = call.padding(number, value) if block.attention is None else call.mask(number, value)
        elif name == POSITION_IDS and call.flash and POSITIONS in given and call.entered[number].version:
            # Flash attention would take their gaps for borders of packed sequences; the rotary tables are there.
            cut[name] = None
        elif value is not None and call.entered[number].version and name not in CACHE_NAMES:
            cut[name] = call.cut(number, name, value)
        else:
            cut[name] = value
    return cut


def _is_reduced(cache: Any, number: int) -> bool:
    layers = getattr(cache, "layers", ())
    return number < len(layers) and isinstance(layers[number], ReducedLayer)


def _before_attention(number: int) -> Callable:
    """Gradient checkpointing runs a layer again in the backward pass, where no call is active: find it by its tag."""

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        call = context.call()
        if call is None and torch.is_grad_enabled():
            context.replay(number, _tagged(kwargs))
        elif call is not None:
            call.before_attention(module, args, kwargs)

    return hook


def _before_recurrent(number: int) -> Callable:
    """A recurrent mixer gets no positions; the layer's input, which its first norm reads, carries the tag instead."""

    def hook(module: nn.Module, args: tuple) -> None:
        call = getattr(args[0], TAG, None) if args else None
        if call is not None and context.call() is None and torch.is_grad_enabled():
            context.replay(number, call)

    return hook


def _before_mlp(number: int, block: Block) -> Callable:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        call = context.call() or context.replayed(number)
        if call is None:
            return
        if args[0].ndim != 3 or call.folds[number].folded:
            call.no_place.add(number)  # what the norm reads is not the residual stream, or not in its shape
        else:
            graph = torch.is_grad_enabled() and args[0].requires_grad
            call.after_attention(number, args[0], graph or _checkpoints(block))

    return hook


def _after_layer(number: int, block: Block) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        call = context.call() or context.replayed(number)
        if call is None:
            return None
        if block.attention is not None and not call.finished:
            call.decisions.check_attention(type(block.attention).__name__)
        hidden = output[0] if isinstance(output, tuple) else output
        hidden, shape = fold(hidden, call.batch, call.entered[number].length)
        if block.mlp_norm is None or number in call.no_place:
            hidden = call.instead_of_after_attention(number, hidden)
        hidden = shape.undo(call.after_layer(number, hidden))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return hook


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _tag(given: dict[str, Any], call: Call) -> None:
    """Mark the layer's inputs, which checkpointing holds until the backward pass, with the call they belong to."""
    for tensor in _tensors(given.get(POSITIONS)):
        setattr(tensor, TAG, call)


def _tagged(given: dict[str, Any]) -> Call | None:
    return next((getattr(t, TAG, None) for t in _tensors(given.get(POSITIONS))), None)
