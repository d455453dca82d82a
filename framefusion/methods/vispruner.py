"""VisPruner: keep what the class token looks at, and of the rest what repeats least.

Paper: https://arxiv.org/abs/2412.01818. Acts in front of the projector, picture by picture.

Differs from the published code: an odd number of remaining tokens is split into halves that differ by one (the code
fails); duplicates are ties, which the place in line breaks; every picture keeps its own share and row newlines follow
their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.method import MethodFacts, Signals, Stage
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import Keep, Mix, TowerLayer
from framefusion.core.scored import SelectingMethod
from framefusion.core.stage import ProjectorStage

if TYPE_CHECKING:
    from torch import Tensor

PER_ROUND = 8
SAME = 1.0 - 1e-6
"""Cosines above this are those of duplicates."""


@dataclass(frozen=True)
class VisPruner(SelectingMethod):
    """Important tokens by attention, diverse tokens by removing duplicates from the others.

    Args:
        keep: fraction of the patches of each picture, (0, 1], or their number; a fraction is rounded to the nearest
            count. The default is 64 of the 576 of LLaVA-1.5.
        important: share of the kept tokens that attention chooses, [0, 1], rounded down; the others are the diverse
            ones.
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.VisPruner(keep=0.111)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 64)
    """

    keep: Keep = 0.111
    important: Mix = 0.5
    tower_layer: TowerLayer = -2

    facts = MethodFacts(
        name="vispruner",
        title="VisPruner",
        paper="https://arxiv.org/abs/2412.01818",
        summary="keeps what the class token looks at, and of the rest what repeats least",
        stage="in front of the projector, picture by picture",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (ProjectorStage(self.decide),)

    def select(self, signals: Signals, count: int) -> Tensor:
        total = len(signals)
        vision = signals.vision()
        ranked = highest(vision.saliency(self.tower_layer, False), total)
        important = int(count * self.important)
        chosen = ranked[:important]
        if important < count:
            rest = ranked[important:]
            chosen = torch.cat([chosen, rest[least_repeated(vision.features()[rest], count - important)]])
        return chosen


def least_repeated(features: Tensor, count: int) -> Tensor:
    """(count,) of the (n, C) tokens that are left when the most similar ones of one half go, round by round.

    In each round every second token of the line looks for its most similar one in the other half; those with the most
    similar ones leave, and the others of that half move to the front, most similar first.
    """
    unit = unit_rows(features)
    line = torch.arange(len(unit), device=unit.device)
    cosine = unit @ unit.T
    # So that duplicates tie: float32 would rank them by the order of its sums.
    cosine = torch.where(cosine > SAME, 1.0, cosine)
    while len(line) > count:
        even, odd = line[::2], line[1::2]
        closest = cosine[even][:, odd].amax(1)
        even = even[highest(closest, len(even))]
        line = torch.cat([even[min(PER_ROUND, len(line) - count) :], odd])
    return line
