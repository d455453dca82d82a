"""FastVID: cut the clip where it changes, keep what stands out in each frame, and merge the rest into dense tokens.

Paper: FastVID, https://arxiv.org/abs/2503.11187.

Differs from the published code: frames compare by the mean of their embeddings on every model (the code loads SigLIP's
pooling head where it can); density gets no noise; what floor division loses goes to the first anchor frames, and what
does not fit into anchor frames to the tokens attended to most, so that the count is exact, and kept tokens never merge
into others, unless `variant` names a published one; clips may be short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import Variant, divide, kept_count
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.matching import nearest
from framefusion.core.ops.scenes import cut_segments
from framefusion.core.ops.selection import lowest_of_each
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.weighted import group_sums
from framefusion.core.options import Cosine, Count, Keep, Mix, TowerLayer
from framefusion.core.plan import GONE, Plan, blend
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 4


@dataclass(frozen=True)
class FastVID(Method):
    """Dynamic temporal segmentation, then salient and context tokens.

    Args:
        keep: fraction of the patches of each frame, (0, 1], rounded down, or their number.
        segments: segments that a clip of enough frames has at least, cut where neighbouring frames are least alike.
        tau: cosine of neighbouring frames below which there is a cut, [-1, 1]; published: 0.9, and 0.84 on Qwen2.5-VL.
        context: share of the kept tokens that others merge into, [0, 1], rounded down in each frame; the others are the
            salient ones, chosen by attention.
        every: frames from one anchor frame of a segment to the next, counted from its last frame; at least 1.
        beta: least share of a context token in its merged value, [0, 1].
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.
        variant: "exact" gives out the whole budget and leaves kept tokens alone; "llava_onevision" and "llava_video"
            divide and merge as the code published for these models.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.FastVID(keep=0.1)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 32)
    """

    keep: Keep = 0.1
    segments: Count = 8
    tau: Cosine = 0.9
    context: Mix = 0.4
    every: Count = 4
    beta: Mix = 0.6
    tower_layer: TowerLayer = -1
    variant: Variant = "exact"
    proportional_attention: bool = False

    facts = MethodFacts(
        name="fastvid",
        title="FastVID",
        paper="https://arxiv.org/abs/2503.11187",
        summary="keeps what stands out in each frame and merges the rest of a segment into dense tokens",
        stage="prompt, before layer 0",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide, needs=frozenset({"hidden", "vision"})),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        frame = frame_numbers(signals.geometry)
        sizes = torch.bincount(frame).tolist()
        budget = [kept_count(self.keep, count, int) for count in sizes]
        if sum(budget) == len(signals):
            return Plan.identity(len(signals), frame.device)
        hidden, attention = signals.hidden().to(torch.float32), signals.vision().saliency(self.tower_layer, False)
        segment = cut_segments(unit_rows(group_sums(hidden, frame)), self.tau, self.segments)
        parts = divide(budget, sizes, segment.tolist(), self.context, self.every, self.variant)
        salient = lowest_of_each(-attention, frame, torch.tensor(parts.salient, device=frame.device))
        anchor = torch.zeros_like(salient)
        for number, count in enumerate(parts.context):
            if count:
                others = ((frame == number) & ~salient).nonzero().flatten()
                anchor[others[density_clusters(hidden[others], count, NEIGHBOURS)[0]]] = True
        kept = salient | anchor
        free, missing = (~kept).nonzero().flatten(), torch.tensor(parts.missing, device=frame.device)
        kept[free[lowest_of_each(-attention[free], segment[frame[free]], missing)]] = True
        return self._merge(kept, anchor, frame, segment[frame], unit_rows(hidden), signals.size)

    def _merge(self, kept: Tensor, anchor: Tensor, frame: Tensor, segment: Tensor, unit: Tensor, size: Tensor) -> Plan:
        """Every token that is not kept joins the most similar anchor in each anchor frame of its segment.

        In the published variants anchors join as well: those of other frames, on LLaVA-OneVision also their own.
        """
        head = torch.where(kept, torch.arange(len(kept), device=kept.device), GONE)
        target, source = [head[:0]], [head[:0]]
        joins = ~kept if self.variant == "exact" else ~kept | anchor
        for number in segment[anchor].unique().tolist():
            inside = segment == number
            rest, anchors = (inside & ~kept).nonzero().flatten(), (inside & anchor).nonzero().flatten()
            head[rest] = anchors[nearest(unit[rest], unit[anchors])]
            for place in frame[anchors].unique().tolist():
                here = anchor & (frame == place)
                own = here.nonzero().flatten()
                joining = (inside & (joins if self.variant == "llava_onevision" else joins & ~here)).nonzero().flatten()
                target.append(own[nearest(unit[joining], unit[own])])
                source.append(joining)
        keep = kept.nonzero().flatten()
        return blend(keep, head, torch.cat(target), torch.cat(source), size, self.beta)
