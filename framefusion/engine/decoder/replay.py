"""Gradient checkpointing runs a layer again in the backward pass, outside any forward pass: its inputs say of which.

What checkpointing holds of a layer's inputs is from before our hook or after it, depending on the version of
transformers; both carry a tag. A recurrent mixer gets no positions; the layer's input carries the tag there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.sequence.slicing import POSITION_TABLES

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.decoder.forward import Forward
    from framefusion.engine.model.parts import Block

TAG = "_framefusion_forward"


def checkpoints(block: Block) -> bool:
    """Whether the layer will run again in the backward pass; its first run may then lie outside autograd."""
    return bool(getattr(block.layer, "gradient_checkpointing", False)) and block.layer.training


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def tag_inputs(given: dict[str, Any], forward: Forward) -> None:
    """Mark the layer's inputs, which checkpointing holds until the backward pass, with the pass they belong to."""
    for tensor in _tensors(given.get(POSITION_TABLES)):
        setattr(tensor, TAG, forward)


def tagged(given: dict[str, Any]) -> Forward | None:
    return next((getattr(tensor, TAG, None) for tensor in _tensors(given.get(POSITION_TABLES))), None)
