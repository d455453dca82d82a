"""VisionZip: keep what the class token looks at, and merge the rest into a few contextual tokens.

Paper: https://arxiv.org/abs/2412.04467. Acts in front of the projector, picture by picture.

Differs from the published code: the class token itself is never projected, so no token stands for it; keys are compared
with all heads side by side (the code averages the heads first); survivors stay in reading order; and, unless
`strict=True`, a contextual token is the mean of the tokens it stands for (the code adds the mean of the others to it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch

from framefusion.core.method import MethodFacts, Signals, Stage
from framefusion.core.ops.matching import nearest
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import Interval, Keep, TowerLayer
from framefusion.core.plan import Plan
from framefusion.core.scored import BudgetedMethod
from framefusion.core.stage import ProjectorStage

if TYPE_CHECKING:
    from torch import Tensor

Contextual = Annotated[float, Interval("[0, 1)", noun="fraction")] | Annotated[int, Interval("[0, inf)", noun="count")]


@dataclass(frozen=True)
class VisionZip(BudgetedMethod):
    """Dominant tokens by attention, contextual tokens by merging what is left.

    Args:
        keep: tokens of each picture, dominant and contextual, as a fraction in (0, 1] or a number; a fraction is
            rounded to the nearest count. The default is 64 of the 576 of LLaVA-1.5.
        contextual: contextual tokens as a fraction [0, 1) of the kept ones, rounded to the nearest count, or their
            number; the default is the published 10 of 64. At least one kept token stays dominant.
        tower_layer: attention layer of the vision tower that scores and compares, -1 the last, -2 the one before it.
        strict: a contextual token is its target plus the mean of the tokens assigned to it, as published, and where the
            tower has a class token one dominant token less is kept, because the published code counts the class token.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.VisionZip(keep=0.111)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 64)
    """

    keep: Keep = 0.111
    contextual: Contextual = 0.15625
    tower_layer: TowerLayer = -2
    strict: bool = False
    proportional_attention: bool = False

    facts = MethodFacts(
        name="visionzip",
        title="VisionZip",
        paper="https://arxiv.org/abs/2412.04467",
        summary="keeps what the class token looks at and merges the rest into a few contextual tokens",
        stage="in front of the projector, picture by picture",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (ProjectorStage(self.decide),)

    def plan(self, signals: Signals, count: int) -> Plan:
        vision = signals.vision()
        contextual, published = self._contextual(count), self.strict and vision.source == "cls"
        dominant = highest(vision.saliency(self.tower_layer, False), max(1, count - contextual - published))
        if contextual == 0:
            return Plan.select(dominant, len(signals))
        plan = Plan.merge(self._heads(dominant, contextual, vision.keys(self.tower_layer)), signals.size)
        return _as_published(plan) if self.strict else plan

    def _contextual(self, count: int) -> int:
        wanted = self.contextual if isinstance(self.contextual, int) else round(self.contextual * count)
        return min(wanted, count - 1)

    def _heads(self, dominant: Tensor, contextual: int, keys: Tensor) -> Tensor:
        """(N,) token that stands for each one: itself, or the contextual token most like it."""
        unit = unit_rows(keys)
        head = torch.arange(len(unit), device=unit.device)
        free = torch.ones_like(head, dtype=torch.bool).index_fill(0, dominant, False)
        rest = free.nonzero().flatten()
        targets = rest[:: len(rest) // contextual][:contextual]
        head[rest] = targets[nearest(unit[rest], unit[targets])]
        head[targets] = targets
        return head


def _as_published(plan: Plan) -> Plan:
    """Every target whole, plus the mean of the tokens assigned to it."""
    if plan.target is None or plan.own is None:
        return plan
    assigned = torch.bincount(plan.target, minlength=plan.kept)
    return replace(plan, weight=1.0 / assigned[plan.target], own=torch.ones_like(plan.own))
