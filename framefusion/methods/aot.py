"""AOT: anchors of each frame take in its rest by optimal transport, and those of a scene's first frame the others.

Paper: AOT, Token Reduction via Local and Global Contexts Optimization, https://arxiv.org/abs/2603.01400.

Differs from the published code: it acts on the tokens of the language model, after pooling, and both choices of anchors
read one layer of the tower (the code: an early and a late one); the count is exact; transport runs until it settles
(the code stops after two or three steps); the anchors of a first frame appear once, merged (the code: twice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.anchors import Frame, along_time, places, window_numbers
from framefusion.core.ops.budget import apportion
from framefusion.core.ops.grid import number_of
from framefusion.core.ops.selection import lowest_of_each
from framefusion.core.options import Count, Keep, Mix, TowerLayer
from framefusion.core.plan import GONE, Plan, mixed
from framefusion.core.scored import BudgetedMethod

if TYPE_CHECKING:
    from torch import Tensor

ALMOST = 1e-6


@dataclass(frozen=True)
class AOT(BudgetedMethod):
    """Anchors by attention, half of them spread over the picture; transport in each frame, then along time.

    Args:
        keep: fraction of the patches of each clip, (0, 1], rounded to the nearest count, or their number; default 0.25.
            1.0 is the identity.
        every: frames of a scene, whose first frame takes in the others; at least 1.
        fresh: share of the anchors of the other frames that stays, those that fit the first frame least, [0, 1].
        local: share of the anchors that are chosen window by window, [0, 1].
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.AOT(keep=0.25)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    keep: Keep = 0.25
    every: Count = 4
    fresh: Mix = 0.4
    local: Mix = 0.5
    tower_layer: TowerLayer = -2
    proportional_attention: bool = False

    facts = MethodFacts(
        name="aot",
        title="AOT",
        paper="https://arxiv.org/abs/2603.01400",
        summary="anchors take in the rest of their frame, then of their scene, by optimal transport",
        stage="before layer 0",
        merges=True,
    )

    uses = frozenset({"hidden", "vision"})

    def plan(self, signals: Signals, count: int) -> Plan:
        frame, values = frame_numbers(signals.geometry), signals.hidden().to(torch.float32)
        tokens = torch.bincount(frame)
        line = torch.arange(len(tokens), device=frame.device)
        first = line - line % self.every
        kept = apportion(torch.where(first == line, 1.0, self.fresh), tokens, count)
        is_anchor = self._anchors(signals, frame, torch.minimum(tokens, torch.maximum(kept, kept[first])))
        place = places(signals.geometry.row, signals.geometry.column)
        head, parts = torch.full_like(frame, GONE), []
        for start in first.unique().tolist():
            own = (first[frame] == start).nonzero().flatten()
            numbers = range(start, min(start + self.every, len(tokens)))
            frames = [Frame.of(values[own], place[own], frame[own] == number, is_anchor[own]) for number in numbers]
            stay, share, stands = along_time(values[own], frames, kept[start : numbers.stop].tolist())
            head[own] = torch.where(stands == GONE, GONE, own[stands])
            row, source = share.nonzero(as_tuple=True)
            parts.append((own[stay[row]], own[source], share[row, source]))
        return mixed(head, *(torch.cat(part) for part in zip(*parts, strict=True)))

    def _anchors(self, signals: Signals, frame: Tensor, counts: Tensor) -> Tensor:
        """(N,) bool, the tokens of each frame the tower attends to most: some in every window, then anywhere.

        frame: (N,) number of each token's frame. counts: (F,) anchors in each.
        """
        against = -signals.vision().saliency(self.tower_layer, False)
        cell = number_of(frame, window_numbers(signals.geometry.row, signals.geometry.column))
        of = torch.zeros(int(cell.max()) + 1, dtype=torch.long, device=cell.device).scatter_(0, cell, frame)
        by_window = (counts * self.local + ALMOST).long() // torch.bincount(of)
        chosen = lowest_of_each(against, cell, by_window[of])
        others = (~chosen).nonzero().flatten()
        missing = counts - torch.bincount(frame[chosen], minlength=len(counts))
        chosen[others[lowest_of_each(against[others], frame[others], missing)]] = True
        return chosen
