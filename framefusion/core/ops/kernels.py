"""Which of the operations have a kernel where a tensor lives."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

TYPES = (torch.float32, torch.bfloat16, torch.float16)


def kernels_for(values: Tensor, room: str) -> Any | None:
    """The module `framefusion.core.ops.triton.<room>` where it serves `values` (M, D), else None.

    It does on a GPU that Triton knows, outside autograd, if the channels of a row lie side by side.
    """
    recorded = values.requires_grad and torch.is_grad_enabled()
    if not values.is_cuda or recorded or values.dtype not in TYPES or values.stride(-1) != 1:
        return None
    return _module(room)


@cache
def _module(room: str) -> Any | None:
    return import_module(f"framefusion.core.ops.triton.{room}") if find_spec("triton") else None
