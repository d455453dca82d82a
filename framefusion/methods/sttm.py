"""STTM: merge each frame into a quadtree, then equal nodes along time.

Paper: STTM, https://arxiv.org/abs/2507.07990.

Differs from the published code, unless `strict=True`: blocks at the border of odd grids have only the parts they have
(the code compares them with the frame's first block as well), and a block of a single part is judged by the parts of
that one; a merged token is the mean of all originals it stands for (the code averages nodes, however large); and nodes
that are connected along time all unite (the code stops earlier). Survivors keep their own positions, and newlines stay
with their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated

import torch

from framefusion.core.layout import cells_of
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.clustering import united, united_until_settled
from framefusion.core.ops.grid import block_levels, number_of
from framefusion.core.ops.similarity import time_order, unit_rows
from framefusion.core.ops.weighted import group_sums
from framefusion.core.options import Cosine, Interval, Layer
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 4
"""Parts of a block that lacks none."""


@dataclass(frozen=True)
class STTM(Method):
    """Blocks of a frame whose parts are alike become one token; so do overlapping blocks of consecutive frames.

    The paper's control is a pair of thresholds, tuned for a budget; 0.85 and 0.65 is one of its pairs.

    Args:
        threshold: cosine that every part of a block must reach with the block's mean for the block to stay whole, in
            [-1, 1]; 1 is the identity: nothing merges, along time neither.
        temporal_threshold: cosine from which overlapping blocks of consecutive frames unite, in [-1, 1]; 1 leaves time
            out.
        layer: decoder layer before which tokens merge.
        root: how many levels below the coarsest grid (two cells along the shorter side) the largest blocks lie.
        strict: as published: at the border of odd grids what a block lacks is read from the frame's first block;
            uniting along time ends early and leaves nodes apart that meet in a later block only; united nodes count
            alike.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.STTM(threshold=0.85, temporal_threshold=0.65)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    threshold: Cosine = 0.85
    temporal_threshold: Cosine = 0.65
    layer: Layer = 2
    root: Annotated[int, Interval("[0, inf)")] = 1
    strict: bool = False
    proportional_attention: bool = False

    facts = MethodFacts(
        name="sttm",
        title="STTM",
        paper="https://arxiv.org/abs/2507.07990",
        summary="merges blocks of alike tokens in each frame, then alike blocks along time",
        stage="before a layer",
        count="data",
        merges=True,
        budget="threshold",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(self.layer), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        if self.threshold == 1.0:
            return Plan.identity(len(signals), signals.size.device)
        row, column = cells_of(signals.geometry)
        hidden = signals.hidden().to(torch.float32)
        node, share = self._leaves(hidden, signals.size, signals.geometry.frame, row, column)
        if self.temporal_threshold < 1.0:
            node = self._along_time(hidden, share, number_of(row, column), node)
        return Plan.merge(_first_of(node)[node], share)

    def _leaves(
        self, hidden: Tensor, size: Tensor, frame: Tensor, row: Tensor, column: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N,) number of the quadtree leaf of each token, and its (N,) weight in the leaf's mean."""
        blocks = [number_of(frame, *level) for level in block_levels(row, column, self.root)]
        parts = [torch.bincount(up[_first_of(low)])[up] for low, up in pairwise(blocks)]
        shares = [size] * len(blocks)
        if self.strict:
            shares = list(accumulate(parts, torch.div, initial=torch.ones_like(size)))
        directions = [unit_rows(_means(hidden, *pair)[pair[1]]) for pair in zip(shares, blocks, strict=True)]
        level = torch.zeros_like(row)
        for height in range(len(blocks) - 1, 0, -1):
            cosine = (directions[height] * directions[height - 1]).sum(-1)
            if self.strict:
                # What a block at the border lacks is the frame's first block, in the published code.
                first = directions[height - 1][_first_of(number_of(frame))[number_of(frame)]]
                lacking = (directions[height] * first).sum(-1)
                cosine = torch.where(parts[height - 1] < WHOLE, torch.minimum(cosine, lacking), cosine)
            lowest = torch.ones_like(cosine).scatter_reduce(0, blocks[height], cosine, "amin")[blocks[height]]
            # A block of one part is that part, which has parts of its own to compare with.
            alone = (parts[height - 1] == 1) & (not self.strict)
            level = torch.where((level == 0) & ~alone & (lowest >= self.threshold), height, level)
        chosen = [torch.stack(values).gather(0, level[None]).squeeze(0) for values in (blocks, shares)]
        return number_of(level, chosen[0]), chosen[1]

    def _along_time(self, hidden: Tensor, size: Tensor, place: Tensor, node: Tensor) -> Tensor:
        """(N,) number of each token's node after alike nodes that overlap from frame to frame have united.

        size: (N,) weight of each token in its node's mean. The previous frame of a place is the last one that still has
        a token there.
        """
        node = number_of(_first_of(node)[node])
        order = time_order(place)
        follows = (place[order][1:] == place[order][:-1]).nonzero().flatten()
        pairs = torch.stack([node[order[follows]], node[order[follows + 1]]], 1).unique(dim=0)
        direction = unit_rows(_means(hidden, size, node))
        alike = (direction[pairs[:, 0]] * direction[pairs[:, 1]]).sum(-1) >= self.temporal_threshold
        one, other = pairs[alike].unbind(1)
        unite = united_until_settled if self.strict else united
        return number_of(unite(len(direction), one, other)[node])


def _means(hidden: Tensor, size: Tensor, group: Tensor) -> Tensor:
    """(G, D) mean of each group's tokens, weighted by the originals they carry."""
    return group_sums(hidden * size[:, None], group) / group_sums(size, group)[:, None]


def _first_of(group: Tensor) -> Tensor:
    """(G,) first token of each group."""
    index = torch.arange(len(group), device=group.device)
    return torch.full((int(group.max()) + 1,), len(group), device=group.device).scatter_reduce(0, group, index, "amin")
