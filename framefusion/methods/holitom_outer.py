"""HoliTom, outer stage: merge what stands still over windows of frames, and keep what the tower looks at of the rest.

Paper: HoliTom, https://arxiv.org/abs/2505.21334. This file holds the outer stage; `holitom` is the inner one.

Differs from the published code: every group keeps at least one token; every clip starts from the share that was asked
for (the code hands a raised share on to the next clip); density gets no noise; `keep=1.0` changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.matching import NOBODY, pair_cosine, partners
from framefusion.core.ops.selection import lowest_of_each
from framefusion.core.ops.weighted import group_sums
from framefusion.core.options import Cosine, Keep, Mix, TowerLayer
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage, join

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 1024
NEIGHBOURS = 7


@dataclass(frozen=True)
class HoliTomOuter(Method):
    """Global temporal windows by dynamic programming, then spatial merging of static and choice of dynamic patches.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; met up to the rounding of small groups.
        tau: cosine with the next frame above which a patch is static, [-1, 1]; published: 0.8, and 0.65 to keep a
            tenth.
        beta: share of a cluster's centre in its merged value, [0, 1].
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.HoliTomOuter(keep=0.2)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    keep: Keep = 0.2
    tau: Cosine = 0.8
    beta: Mix = 0.6
    tower_layer: TowerLayer = -1
    proportional_attention: bool = False

    facts = MethodFacts(
        name="holitom_outer",
        title="HoliTom (outer stage)",
        paper="https://arxiv.org/abs/2505.21334",
        summary="merges what stands still over windows of frames and keeps what the vision tower looks at of the rest",
        stage="prompt, before layer 0",
        count="data",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide, needs=frozenset({"hidden", "vision"})),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        total = len(signals)
        if self.share(total) >= 1.0:
            return Plan.identity(total, signals.size.device)
        still = self.still(signals)
        windows, saved = stillest_windows(still, LONGEST)
        return self.merge(signals, still, windows, self.share(total, saved))

    def share(self, total: int, saved: int = 0) -> float:
        """Share to keep of what is left of a clip of `total` tokens once the windows have saved `saved` of them."""
        share = self.keep / total if isinstance(self.keep, int) else self.keep
        return min(1.0, share / (1.0 - saved / total))

    def merge(self, signals: Signals, still: Tensor, windows: Sequence[tuple[int, int]], share: float) -> Plan:
        """The plan that leaves `share` of what the `windows` leave of one clip.

        Args:
            signals: of the clip.
            still: (F - 1, P) bool, as `still` returns it.
            windows: first frame and the one after the last of each.
            share: in (0, 1].
        """
        hidden, frame = signals.hidden().to(torch.float32), frame_numbers(signals.geometry)
        place = torch.unique(signals.geometry.patch, return_inverse=True)[1]
        moving, parts = torch.ones_like(frame, dtype=torch.bool), []
        for start, stop in windows:
            steady = still[start : stop - 1].all(0) & (stop - start > 1)
            static = ((frame >= start) & (frame < stop) & steady[place]).nonzero().flatten()
            if len(static):
                parts.append((static, self._static(hidden[static], place[static], signals.size[static], share)))
                moving[static] = False
        if bool(moving.any()):
            attention = signals.vision().saliency(self.tower_layer, False)
            parts.append((moving.nonzero().flatten(), _dynamic(attention[moving], frame[moving], share)))
        return join(len(signals), parts)

    def still(self, signals: Signals) -> Tensor:
        """(F - 1, P) bool, whether a place looks in the next frame as in this one, by what `signals` show."""
        frame, place = frame_numbers(signals.geometry), torch.unique(signals.geometry.patch, return_inverse=True)[1]
        partner = partners(frame, place, (frame - 1).clamp(min=0)).masked_fill(frame == 0, NOBODY)
        # Equal tokens do not exceed a tau of 1.
        alike = pair_cosine(signals.hidden(), partner).clamp(max=1.0) > self.tau
        still = torch.zeros(int(frame.max()) + 1, int(place.max()) + 1, dtype=torch.bool, device=frame.device)
        still[frame, place] = alike & (partner != NOBODY)
        return still[1:]

    def _static(self, hidden: Tensor, place: Tensor, size: Tensor, share: float) -> Plan:
        """Means of static places over a window, clustered; the first token of a centre's place stands for a cluster."""
        place = torch.unique(place, return_inverse=True)[1]
        size = size.to(torch.float32)
        part = size / group_sums(size, place)[place]
        means = group_sums(hidden * part[:, None], place)
        count = kept_count(share, len(means))
        centres, label = density_clusters(means, count, min(NEIGHBOURS, count))
        cluster, central = label[place], (centres[label] == torch.arange(len(label), device=label.device))[place]
        others = group_sums(torch.where(central, 0.0, size), cluster)[cluster]
        weight = torch.where(others > 0, self.beta, 1.0)
        weight = torch.where(central, weight * part, (1.0 - weight) * size / others.clamp(min=1e-6))
        token = torch.arange(len(place), device=place.device)
        first = torch.full_like(label, len(place)).scatter_reduce_(0, place, token, "amin")
        return Plan.merge(first[centres[cluster]], weight)


def _dynamic(attention: Tensor, frame: Tensor, share: float) -> Plan:
    """The tokens of each frame that the tower attends to most."""
    quota = [kept_count(share, count, math.ceil) if count else 0 for count in torch.bincount(frame).tolist()]
    chosen = lowest_of_each(-attention, frame, torch.tensor(quota, device=frame.device))
    return Plan.select(chosen.nonzero().flatten(), len(frame))


def stillest_windows(still: Tensor, longest: int) -> tuple[list[tuple[int, int]], int]:
    """Windows (start, stop) that save most tokens, and how many: one token is left of a place that stands still.

    still: (F - 1, P) bool, whether a place looks in the next frame as in this one. longest: frames a window may have.
    By dynamic programming; of equals, the last window is the shortest.
    """
    frames = still.shape[0] + 1
    places = [still[start : start + longest - 1].int().cumprod(0).sum(1).tolist() for start in range(frames)]
    best, begin = [0] * (frames + 1), [0] * (frames + 1)
    for stop in range(1, frames + 1):
        first = max(0, stop - longest)
        saved = [
            best[start] + (places[start][stop - start - 2] * (stop - start - 1) if stop - start > 1 else 0)
            for start in range(first, stop)
        ]
        best[stop] = max(saved)
        begin[stop] = stop - 1 - saved[::-1].index(best[stop])
    windows, stop = [], frames
    while stop:
        windows.append((begin[stop], stop))
        stop = begin[stop]
    return windows[::-1], best[frames]
