"""Tensor parallelism: every process computes some of the heads, and all of them must decide from all heads.

What a decision reads of an attention call is brought together here. The processes make the same calls in the same order
because they made the same decisions before; hidden states are equal on all of them, so nothing else has to be shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch import Tensor, nn

AXIS = "tp"
HEAD_COUNTS = ("num_attention_heads", "num_heads")


def sharing_heads(module: nn.Module, heads: int) -> Any | None:
    """The process group over which the heads of attention `module` are spread, None where this process has them all.

    heads: those its query has here. Some plans shard the projections and gather the heads again.
    """
    group = _group(module)
    if group is None:
        return None
    config = getattr(module, "config", None)
    total = next((getattr(config, name) for name in HEAD_COUNTS if hasattr(config, name)), None)
    return group if total is None or heads < total else None


def _group(module: nn.Module) -> Any | None:
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    from torch.distributed.tensor import DTensor

    for weight in module.parameters():
        if isinstance(weight, DTensor) and any(placement.is_shard() for placement in weight.placements):
            mesh = weight.device_mesh
            if mesh.ndim == 1:
                return mesh.get_group()
            if AXIS in (mesh.mesh_dim_names or ()):
                return mesh.get_group(AXIS)
    return None


def averaged(values: Tensor, group: Any | None) -> Tensor:
    """Mean over the processes, of equally many heads each: the same bits on all of them."""
    if group is None:
        return values
    total = values.contiguous().clone()
    distributed.all_reduce(total, group=group)
    return total / distributed.get_world_size(group)


def gathered(values: Tensor, dim: int, group: Any | None) -> Tensor:
    """The pieces of all processes side by side along dimension `dim`, in the order of their ranks."""
    if group is None:
        return values
    pieces = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(group.size())]
    distributed.all_gather(pieces, values.contiguous(), group=group)
    return torch.cat(pieces, dim)
