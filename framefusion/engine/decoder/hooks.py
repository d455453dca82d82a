"""Hooks on the decoder layers: before a layer, between its attention and its MLP, and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.decoder.kv_cache import ReducedLayer, cached_layer
from framefusion.engine.decoder.replay import TAG, checkpoints, tag_inputs, tagged
from framefusion.engine.model.cache_names import cache_in
from framefusion.engine.model.calls import by_name, hidden_in, parameters_of
from framefusion.engine.model.releases import HIDDEN, check_hidden_cache
from framefusion.engine.refusals import refuse_checkpointing
from framefusion.engine.sequence.slicing import fold

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.model.parts import Block, ModelParts


def hook_layers(parts: ModelParts) -> Iterator[Any]:
    """Register all hooks of the decoder layers; yields their handles."""
    for number, block in enumerate(parts.blocks):
        yield block.layer.register_forward_pre_hook(_before_layer(number, block), with_kwargs=True)
        if block.attention is not None:
            yield block.attention.register_forward_pre_hook(_before_attention(number), with_kwargs=True)
        else:
            for first in list(block.layer.children()):
                yield first.register_forward_pre_hook(_before_recurrent(number))
        if block.mlp_norm is not None:
            yield block.mlp_norm.register_forward_pre_hook(_before_mlp(number, block))
        yield block.layer.register_forward_hook(_after_layer(number, block))


def _before_layer(number: int, block: Block) -> Callable:
    names = parameters_of(block.layer)[1:]

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        forward = context.forward() or tagged(kwargs)
        if forward is None:
            return None
        hidden, given = hidden_in(args, kwargs), by_name(names, args[1:], kwargs)
        given.pop(HIDDEN, None)
        if not forward.finished:
            forward.cache = forward.cache or cache_in(given)
            if forward.cache is None:
                check_hidden_cache(given, type(module).__name__)
        hidden, forward.folds[number] = fold(hidden, forward.batch, forward.length_before(number))
        hidden = forward.before_layer(number, hidden)
        cached = cached_layer(forward.cache, number if block.key_source is None else block.key_source)
        given = forward.cut_inputs(number, block, given, isinstance(cached, ReducedLayer))
        if checkpoints(block):
            refuse_checkpointing(block, bool(forward.deepstack.planes))
        if torch.is_grad_enabled() or checkpoints(block):
            tag_inputs(kwargs, forward)
            tag_inputs(given, forward)
            if block.attention is None:
                setattr(hidden, TAG, forward)
        return (forward.folds[number].undo(hidden),), given

    return hook


def _before_attention(number: int) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        forward = context.forward()
        if forward is None and torch.is_grad_enabled():
            context.replay(number, tagged(kwargs), module)
        elif forward is not None and not forward.finished:
            forward.attention.module_begins(module, args, kwargs)

    return hook


def _before_recurrent(number: int) -> Callable:
    def hook(module: nn.Module, args: tuple) -> None:
        forward = getattr(args[0], TAG, None) if args else None
        if forward is not None and context.forward() is None and torch.is_grad_enabled():
            context.replay(number, forward)

    return hook


def _before_mlp(number: int, block: Block) -> Callable:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        forward = context.forward() or context.replayed(number)
        if forward is None:
            return
        if args[0].ndim != 3 or forward.folds[number].folded:
            forward.no_place.add(number)  # what the norm reads is not the residual stream, or not in its shape
        else:
            graph = torch.is_grad_enabled() and args[0].requires_grad
            forward.after_attention(number, args[0], graph or checkpoints(block))

    return hook


def _after_layer(number: int, block: Block) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        forward = context.forward() or context.replayed(number)
        if forward is None:
            return None
        if block.attention is not None and not forward.finished:
            forward.decisions.check_attention(type(block.attention).__name__, forward.attention.latest)
            forward.weights.check(number, type(block.attention).__name__)
        hidden = output[0] if isinstance(output, tuple) else output
        hidden, shape = fold(hidden, forward.batch, forward.entered[number].length)
        if block.mlp_norm is None or number in forward.no_place:
            hidden = forward.instead_of_after_attention(number, hidden)
        hidden = shape.undo(forward.after_layer(number, hidden))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return hook
