"""FasterVLM: keep the tokens the class token looks at.

Paper: https://arxiv.org/abs/2412.01818 (first version). Acts in front of the projector, picture by picture.

Differs from the published code: every picture keeps its own share and row newlines follow their rows (the code takes
un-padding and newlines out of LLaVA-NeXT); towers without a class token are scored by the attention of their pooling
query, else by the attention each token receives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from framefusion.method import Method, MethodFacts, Signals, Stage
from framefusion.ops.count import kept_count
from framefusion.ops.pick import highest
from framefusion.options import Keep, TowerLayer
from framefusion.plan import Plan
from framefusion.stage import ProjectorStage


@dataclass(frozen=True)
class FasterVLM(Method):
    """Keep the tokens of highest attention from the class token.

    Args:
        keep: fraction of the patches of each picture, (0, 1], or their number; a fraction is rounded to the nearest
            count. The default is 64 of the 576 of LLaVA-1.5.
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.FasterVLM(keep=0.111)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 64)
    """

    keep: Keep = 0.111
    tower_layer: TowerLayer = -2

    facts: ClassVar[MethodFacts] = MethodFacts(
        name="fastervlm",
        title="FasterVLM",
        paper="https://arxiv.org/abs/2412.01818v1",
        summary="keeps the tokens the class token looks at",
        stage="in front of the projector, picture by picture",
        query_aware=False,
        count="geometry",
        merges=False,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (ProjectorStage(self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one picture."""
        total = len(signals)
        count = kept_count(self.keep, total)
        if count == total:
            return Plan.identity(total, signals.size.device)
        return Plan.select(highest(signals.vision().saliency(self.tower_layer, False), count), total)
