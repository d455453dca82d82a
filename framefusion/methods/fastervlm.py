"""FasterVLM: keep the tokens the class token looks at.

Paper: https://arxiv.org/abs/2412.01818 (first version). Acts in front of the projector, picture by picture.

Differs from the published code: every picture keeps its own share and row newlines follow their rows (the code takes
un-padding and newlines out of LLaVA-NeXT); towers without a class token are scored by the attention of their pooling
query, else by the attention each token receives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framefusion.core.method import MethodFacts, Signals, Stage
from framefusion.core.options import Keep, TowerLayer
from framefusion.core.scored import ScoredMethod
from framefusion.core.stage import ProjectorStage

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FasterVLM(ScoredMethod):
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

    facts = MethodFacts(
        name="fastervlm",
        title="FasterVLM",
        paper="https://arxiv.org/abs/2412.01818v1",
        summary="keeps the tokens the class token looks at",
        stage="in front of the projector, picture by picture",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (ProjectorStage(self.decide),)

    def score(self, signals: Signals) -> Tensor:
        return signals.vision().saliency(self.tower_layer, False)
