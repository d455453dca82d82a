"""Steps carried out in a residual stream whose shape autograd does not let change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.sequence.reduce import ReductionStep


def write_survivors(residual: Tensor, steps: Sequence[ReductionStep]) -> Tensor:
    """Put the values the survivors get into their slots of `residual` (B, K_old, D); returns where, (B, K_new)."""
    short, gather = residual, None
    for step in steps:
        short = step.apply(short)
        gather = step.gather if gather is None else gather.gather(1, step.gather)
    assert gather is not None
    valid = steps[-1].after.valid
    if valid is None:
        residual.scatter_(1, gather.to(residual.device).unsqueeze(-1).expand_as(short), short)
    else:
        row, slot = (index.to(residual.device) for index in valid.nonzero(as_tuple=True))
        residual[row, gather.to(residual.device)[row, slot]] = short[row, slot]
    return gather
