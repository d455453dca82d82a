"""Which linear layers are quantised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from framefusion.core.errors import OptionError
from framefusion.engine.model.parts import find_parts


def linear_layers(model: nn.Module, tower: bool) -> dict[str, nn.Linear]:
    """Those of `all_linear_layers`. Raises OptionError where weights cannot be quantised (again)."""
    found = all_linear_layers(model, tower)
    for name, part in found.items():
        _check(name, part)
    return found


def all_linear_layers(model: nn.Module, tower: bool) -> dict[str, nn.Linear]:
    """By their path: all linear layers of the decoder, with `tower` those of vision tower and projector as well.

    The head that writes words stays, with everything that shares its weight or an embedding's; so do adapters, which
    PEFT puts beside a `base_layer`.
    """
    inside = set(map(id, (model if tower else find_parts(model).decoder).modules()))
    spared = _adapters(model) | set(map(id, [_head(model)]))
    embedded = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear)
        and id(part) in inside
        and id(part) not in spared
        and id(part.weight) not in embedded
    }


def check_groups(layers: Iterable[nn.Linear], group: int, hint: str) -> None:
    """Raises OptionError where a row of weights is not made of whole groups."""
    odd = sorted({layer.in_features for layer in layers if layer.in_features % group})
    if odd:
        raise OptionError(f"group={group} does not divide rows of {odd[0]} weights", hint=hint)


def _head(model: Any) -> Any:
    return find_parts(model).model.get_output_embeddings()


def _adapters(model: nn.Module) -> set[int]:
    return {
        id(part)
        for holder in model.modules()
        if isinstance(getattr(holder, "base_layer", None), nn.Module)
        for name, child in holder.named_children()
        if name != "base_layer"
        for part in child.modules()
    }


def _check(name: str, part: nn.Linear) -> None:
    weight = part.weight
    if type(weight.data) is not torch.Tensor or not weight.is_floating_point():
        raise OptionError(
            f"{name} is quantised already",
            f"its weight is a {type(weight.data).__name__} of {weight.dtype}",
            "load the checkpoint in half precision to quantise it here",
        )
    if weight.is_meta:
        raise OptionError(
            f"{name} has no weight in memory", "accelerate moved it elsewhere", "load the model on one device"
        )
