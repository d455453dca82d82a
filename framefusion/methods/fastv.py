"""FastV: drop the visual tokens that the last query attends to least, early in the language model.

Paper: FastV, https://arxiv.org/abs/2403.06764.

Differs from the published code: every clip keeps its own share (the code knows one image at a fixed place in the
prompt), no layer runs twice, and the score row is computed apart, so any attention kernel may run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.options import AttendedLayer, Keep
from framefusion.core.scored import ScoredMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FastV(ScoredMethod):
    """Keep the patches with the highest attention of the last query row, averaged over heads.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; 1 - R in the paper.
        layer: decoder layer before which the others go, K in the paper; the score is that of the attention before it.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.FastV(keep=0.5, layer=2)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 256)
    """

    keep: Keep = 0.5
    layer: AttendedLayer = 2

    facts = MethodFacts(
        name="fastv",
        title="FastV",
        paper="https://arxiv.org/abs/2403.06764",
        summary="drops the tokens the last query attends to least",
        stage="before a layer",
        query_aware=True,
    )

    uses: ClassVar[frozenset[str]] = frozenset({"attention"})

    def score(self, signals: Signals) -> Tensor:
        return signals.attention(1)
