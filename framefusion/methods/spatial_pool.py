"""SpatialPool: average neighbouring cells of each frame, the oldest way to have fewer visual tokens; a control.

Paper: none. Differs from the published code: there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.errors import LayoutError
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.options import Keep
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry


@dataclass(frozen=True)
class SpatialPool(Method):
    """Merge every block of k x k cells of a frame into its mean, which takes the position of the block's first token.

    Blocks are counted from the top left; those at the right and lower border of a grid that k does not divide are
    smaller. A frame of R x C cells keeps ceil(R / k) * ceil(C / k) tokens.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; k is the factor whose count comes nearest,
            the smaller one of two that come equally near. Default 0.25, which is k = 2 on even grids. 1.0 is the
            identity.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.SpatialPool(keep=0.25)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    keep: Keep = 0.25
    proportional_attention: bool = False

    facts = MethodFacts(
        name="spatial_pool",
        title="Spatial average pooling",
        paper="",
        summary="averages blocks of neighbouring cells of each frame",
        stage="before layer 0",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide, needs=frozenset()),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        geometry = signals.geometry
        if bool((geometry.row < 0).any()):
            raise LayoutError(
                "these visual tokens have no rows and columns to pool over",
                "their layout names frames only",
                "use FrameSample or Uniform, or pass a layout with a grid",
            )
        block = _blocks(geometry, self.factor(geometry))
        index = torch.arange(len(geometry), device=block.device)
        first = torch.full_like(index, len(geometry)).scatter_reduce(0, block, index, "amin")
        return Plan.merge(first[block], signals.size)

    def factor(self, geometry: Geometry) -> int:
        """k for the patches of one clip, from their `geometry`."""
        geometry = geometry.to(torch.device("cpu"))
        wanted = self.keep if isinstance(self.keep, int) else self.keep * len(geometry)
        largest = int(torch.maximum(geometry.row.max(), geometry.column.max())) + 1

        def distance(side: int) -> float:
            return abs(int(_blocks(geometry, side).max()) + 1 - wanted)

        return min(range(1, largest + 1), key=distance)


def _blocks(geometry: Geometry, side: int) -> Tensor:
    """(N,) number of the `side` x `side` block each patch of a clip belongs to, counted without gaps."""
    height, width = int(geometry.row.max()) // side + 1, int(geometry.column.max()) // side + 1
    key = (geometry.frame * height + geometry.row // side) * width + geometry.column // side
    return torch.unique(key, return_inverse=True)[1]
