"""DivPrune: keep the tokens that lie farthest apart.

Paper: DivPrune, https://arxiv.org/abs/2503.02175.

Differs from the published code: a token is never picked twice, also when only duplicates are left; newline tokens
are not candidates but follow their row; every clip is pruned by itself; tokens keep their positions; ties go to the
earlier token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.selection import farthest_points
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import Keep
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DivPrune(SelectingMethod):
    """Greedy max-min diversity over cosine distances of the embedded tokens.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; a fraction is rounded to the nearest count.
            The published default is 0.098.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.DivPrune(keep=0.098)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 50)
    """

    keep: Keep = 0.098

    facts = MethodFacts(
        name="divprune",
        title="DivPrune",
        paper="https://arxiv.org/abs/2503.02175",
        summary="keeps the tokens that lie farthest apart",
        stage="prompt, before layer 0",
    )

    def select(self, signals: Signals, count: int) -> Tensor:
        return farthest_points(unit_rows(signals.hidden()), count)
