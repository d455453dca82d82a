"""EVS: drop the tokens that look most like the same cell of the frame before.

Paper: Efficient Video Sampling, https://arxiv.org/abs/2510.14624.

Differs from the published code: this is the variant that vLLM serves, which compares embeddings (the paper compares
pixels); a cell whose predecessor went in an earlier reduction is compared with the nearest frame before that still has
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.similarity import similarity_to_previous, time_order
from framefusion.core.options import Keep
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EVS(SelectingMethod):
    """Keep the first frame of each clip and, over all later frames together, the cells that changed most.

    Args:
        keep: fraction of the patches of each clip, (0, 1], rounded down, or their number; default 0.3, the published
            pruning rate 0.7. Never fewer than the first frame has: with `keep` at most 1 / frames only that one is
            left. 1.0 is the identity.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.EVS(keep=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 153)
    """

    keep: Keep = 0.3

    facts = MethodFacts(
        name="evs",
        title="EVS",
        paper="https://arxiv.org/abs/2510.14624",
        summary="drops the cells that changed least since the frame before",
        stage="before layer 0",
    )

    def count(self, signals: Signals) -> int:
        """Patches to keep of what `signals` shows: rounded down, and never fewer than the first frame has."""
        frame = signals.geometry.frame
        return max(int((frame == frame.min()).sum()), kept_count(self.keep, len(signals), int))

    def select(self, signals: Signals, count: int) -> Tensor:
        geometry = signals.geometry
        order = time_order(geometry.patch)
        lined = similarity_to_previous(signals.hidden(), geometry.patch, order)
        similarity = torch.empty_like(lined)
        similarity[order] = lined
        return similarity.sort(stable=True).indices[:count]
