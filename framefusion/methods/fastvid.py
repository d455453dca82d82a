"""FastVID: cut the clip where it changes, keep what stands out in each frame, and merge the rest into dense tokens.

Paper: FastVID, https://arxiv.org/abs/2503.11187.

Differs from the published code: frames compare by the mean of their embeddings on every model (the code loads SigLIP's
pooling head where it can); density gets no noise; what floor division loses goes to the first anchor frames, and what
does not fit into anchor frames to the tokens attended to most, so that the count is exact; kept tokens never merge into
others; clips may be short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.errors import OptionError
from framefusion.method import Method, MethodFacts, Signals, Stage, before
from framefusion.ops.apportion import apportion
from framefusion.ops.blend import blend
from framefusion.ops.count import Keep, check_keep, kept_count
from framefusion.ops.density import density_clusters
from framefusion.ops.frames import frame_numbers
from framefusion.ops.grouped import group_sums
from framefusion.ops.nearest import nearest
from framefusion.ops.pick import highest
from framefusion.ops.quota import lowest_of_each
from framefusion.ops.unit import unit_rows
from framefusion.ops.watched import check_tower_layer
from framefusion.plan import GONE, Plan
from framefusion.stage import Once

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 4
DIGITS = 5


@dataclass(frozen=True)
class FastVID(Method):
    """Dynamic temporal segmentation, then salient and context tokens.

    keep: fraction of the patches of each frame, (0, 1], rounded down, or their number.
    segments: segments that a clip of enough frames has at least, cut where neighbouring frames are least alike.
    tau: cosine of neighbouring frames below which there is a cut, [-1, 1]; published: 0.9, and 0.84 on Qwen2.5-VL.
    context: share of the kept tokens that others merge into, [0, 1], rounded down in each frame; the others are the
        salient ones, chosen by attention.
    every: frames from one anchor frame of a segment to the next, counted from its last frame; at least 1.
    beta: least share of a context token in its merged value, [0, 1].
    tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.
    """

    keep: Keep = 0.1
    segments: int = 8
    tau: float = 0.9
    context: float = 0.4
    every: int = 4
    beta: float = 0.6
    tower_layer: int = -1

    facts: ClassVar[MethodFacts] = MethodFacts(
        name="fastvid",
        title="FastVID",
        paper="https://arxiv.org/abs/2503.11187",
        summary="keeps what stands out in each frame and merges the rest of a segment into dense tokens",
        stage="prompt, before layer 0",
        query_aware=False,
        count="geometry",
        merges=True,
        needs=("hidden", "vision"),
    )

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_tower_layer(self.tower_layer)
        for name, low in (("context", 0.0), ("beta", 0.0), ("tau", -1.0)):
            if not low <= getattr(self, name) <= 1.0:
                raise OptionError(f"{name} must be in [{low:g}, 1], got {getattr(self, name)}")
        if self.segments < 1 or self.every < 1:
            raise OptionError("segments and every must be at least 1", f"got {self.segments} and {self.every}")

    def stages(self) -> tuple[Stage, ...]:
        return (Once(before(0), self.decide, needs=frozenset({"hidden", "vision"})),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip."""
        frame = frame_numbers(signals.geometry)
        sizes = torch.bincount(frame)
        budget = [kept_count(self.keep, count, int) for count in sizes.tolist()]
        if sum(budget) == len(signals):
            return Plan.identity(len(signals), frame.device)
        hidden, attention = signals.hidden().to(torch.float32), signals.vision().saliency(self.tower_layer, False)
        segment = self._segments(unit_rows(group_sums(hidden, frame)))
        context = torch.tensor([int(count * self.context) for count in budget], device=frame.device)
        salient = lowest_of_each(-attention, frame, torch.tensor(budget, device=frame.device) - context)
        seats, missing = self._seats(segment, context, sizes - torch.bincount(frame[salient], minlength=len(sizes)))
        anchor = torch.zeros_like(salient)
        for number in seats.nonzero().flatten().tolist():
            others = ((frame == number) & ~salient).nonzero().flatten()
            anchor[others[density_clusters(hidden[others], int(seats[number]), NEIGHBOURS)[0]]] = True
        kept = salient | anchor
        free = (~kept).nonzero().flatten()
        kept[free[lowest_of_each(-attention[free], segment[frame[free]], missing)]] = True
        return self._merge(kept, anchor, frame, segment[frame], unit_rows(hidden), signals.size)

    def _segments(self, unit: Tensor) -> Tensor:
        """(F,) ascending segment number of each frame. unit: (F, D) sums of their tokens, of length one."""
        # Rounded so that frames that repeat tie, and the first of them is cut off.
        cosine = torch.round((unit[1:] * unit[:-1]).sum(1), decimals=DIGITS)
        cut = (cosine < self.tau).index_fill(0, highest(-cosine, self.segments - 1), True)
        return torch.cat([cut.new_zeros(1), cut]).cumsum(0)

    def _seats(self, segment: Tensor, context: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """(F,) context tokens of each frame, and (S,) how many of each segment find no place in an anchor frame."""
        seats, missing = torch.zeros_like(context), torch.zeros_like(torch.bincount(segment))
        for number in range(len(missing)):
            frames = (segment == number).nonzero().flatten()
            anchors = frames.flip(0)[:: self.every].flip(0)
            wanted, fits = int(context[frames].sum()), int(room[anchors].sum())
            even = torch.ones(len(anchors), device=segment.device)
            seats[anchors] = apportion(even, room[anchors], min(wanted, fits))
            missing[number] = max(0, wanted - fits)
        return seats, missing

    def _merge(self, kept: Tensor, anchor: Tensor, frame: Tensor, segment: Tensor, unit: Tensor, size: Tensor) -> Plan:
        """Every token that is not kept joins the most similar anchor in each anchor frame of its segment."""
        head = torch.where(kept, torch.arange(len(kept), device=kept.device), GONE)
        target, source = [head[:0]], [head[:0]]
        for number in segment[anchor].unique().tolist():
            rest = ((segment == number) & ~kept).nonzero().flatten()
            anchors = ((segment == number) & anchor).nonzero().flatten()
            head[rest] = anchors[nearest(unit[rest], unit[anchors])]
            for place in frame[anchors].unique().tolist():
                own = anchors[frame[anchors] == place]
                target.append(own[nearest(unit[rest], unit[own])])
                source.append(rest)
        keep = kept.nonzero().flatten()
        return blend(keep, head, torch.cat(target), torch.cat(source), size, self.beta)
