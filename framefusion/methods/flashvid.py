"""FlashVID: keep what is attended to and unlike, link the rest into trees over time, and cluster the trees.

Paper: FlashVID, https://arxiv.org/abs/2602.08024.

Differs from the published code: the count is exact (there, each frame's numbers are rounded up); a tree is the mean of
its tokens (the code divides by the number of links into its root); in a segment of one frame kept tokens are not
clustered again; the cut inside the language model is `Chain(FlashVID(), FastV())`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.budget import apportion
from framefusion.core.ops.scenes import cut_segments
from framefusion.core.ops.selection import farthest_points
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.trees import clusters_of_trees, roots_over_time
from framefusion.core.ops.weighted import group_sums
from framefusion.core.options import Cosine, Count, Keep, Mix, TowerLayer
from framefusion.core.plan import GONE, Plan, mixed
from framefusion.core.scored import BudgetedMethod

if TYPE_CHECKING:
    from torch import Tensor

ALMOST = 1e-6


@dataclass(frozen=True)
class FlashVID(BudgetedMethod):
    """Attention- and diversity-based choice in each frame, then tree-based merging of the others over time.

    Args:
        keep: fraction of the patches of each clip, (0, 1], rounded to the nearest count, or their number; default 0.25.
            1.0 is the identity.
        alpha: share of each frame's tokens that is chosen, [0, 1], rounded up; the others are merged ones.
        segments: segments that a clip of enough frames has at least, cut where neighbouring frames are least alike.
        tau: cosine of neighbouring frames below which there is a cut, [-1, 1].
        link: cosine above which a token joins the one most like it anywhere in the frame before, [-1, 1].
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.FlashVID(keep=0.25)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    keep: Keep = 0.25
    alpha: Mix = 0.7
    segments: Count = 8
    tau: Cosine = 0.9
    link: Cosine = 0.8
    tower_layer: TowerLayer = -1
    proportional_attention: bool = False

    facts = MethodFacts(
        name="flashvid",
        title="FlashVID",
        paper="https://arxiv.org/abs/2602.08024",
        summary="keeps what is attended to and unlike, and merges trees of alike tokens over time",
        stage="before layer 0",
        merges=True,
    )

    uses = frozenset({"hidden", "vision"})

    def plan(self, signals: Signals, count: int) -> Plan:
        frame, hidden = frame_numbers(signals.geometry), signals.hidden().to(torch.float32)
        tokens, unit = torch.bincount(frame), unit_rows(hidden)
        budget = apportion(tokens, tokens, count)
        # As decimals have it: 0.7 of 10 is 7, whatever binary fractions make of it.
        chosen = (budget * self.alpha - ALMOST).ceil().long()
        picks = self._picks(unit, signals.vision().saliency(self.tower_layer, False), frame, chosen.tolist())
        segment = cut_segments(unit_rows(group_sums(hidden, frame)), self.tau, self.segments)
        merged, most = (torch.bincount(segment, part).long() for part in (budget - chosen, tokens - budget))
        root = roots_over_time(unit, frame, segment, ~picks, self.link, most)
        number = torch.unique(root, return_inverse=True)[1]
        size = signals.size.to(torch.float32)
        share = size / group_sums(size, number)[number]
        means = group_sums(hidden * share[:, None], number)[number]
        head, part = clusters_of_trees(means, torch.where(picks, GONE, root), frame, segment, merged)
        head[picks], part[picks] = picks.nonzero().flatten(), 1.0
        alive = (head[root] != GONE).nonzero().flatten()
        return mixed(head[root], head[root][alive], alive, (share * part[root])[alive])

    def _picks(self, unit: Tensor, attention: Tensor, frame: Tensor, counts: Sequence[int]) -> Tensor:
        """(N,) bool, the tokens of each frame that lie farthest apart, weighed by attention."""
        picks = torch.zeros_like(frame, dtype=torch.bool)
        weight = attention / attention.max().clamp(min=torch.finfo(attention.dtype).tiny)
        for number, count in enumerate(counts):
            if count:
                inside = (frame == number).nonzero().flatten()
                picks[inside[farthest_points(unit[inside], count, weight[inside])]] = True
        return picks
