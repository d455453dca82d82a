"""CDPruner: keep tokens that matter to the question and do not repeat each other.

Paper: CDPruner, https://arxiv.org/abs/2506.10967.

Differs from the published code: relevance is the mean cosine with the language model's embeddings of the question, as
in ports to models without a CLIP text tower (the code asks that tower); it is scaled within each clip, not over the
whole batch; once the picks span all tokens the most relevant ones follow (the code computes NaN and repeats picks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.attention import question_rows
from framefusion.core.ops.selection import dpp_picks
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import Interval, Keep
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CDPruner(SelectingMethod):
    """Greedy MAP of a determinantal point process whose kernel is conditioned on the question.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; a fraction is rounded to the nearest count.
        theta: weight of relevance against diversity in [0, 1): relevance r in [0, 1] becomes exp(theta / (2 (1 -
            theta)) r), and 0 ignores the question. None takes r as it is, like the published code.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.CDPruner(keep=0.1)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 51)
    """

    keep: Keep = 0.1
    theta: Annotated[float, Interval("[0, 1)")] | None = 0.5

    facts = MethodFacts(
        name="cdpruner",
        title="CDPruner",
        paper="https://arxiv.org/abs/2506.10967",
        summary="keeps tokens that matter to the question and do not repeat each other",
        stage="prompt, before layer 0",
        query_aware=True,
    )

    uses: ClassVar[frozenset[str]] = frozenset({"hidden", "text", "asks"})

    def select(self, signals: Signals, count: int) -> Tensor:
        unit = unit_rows(signals.hidden())
        question = unit_rows(question_rows(signals.text(), signals.asks()))
        return dpp_picks(unit, self._relevance(unit, question), count)

    def _relevance(self, unit: Tensor, question: Tensor) -> Tensor:
        """(N,) in [0, 1], or its exponential weight; ones where the question tells no token from another."""
        if len(question) == 0:
            return torch.ones(len(unit), device=unit.device)
        cosine = unit @ question.mean(0)
        spread = cosine.max() - cosine.min()
        relevance = torch.where(spread > 1e-6, (cosine - cosine.min()) / spread.clamp(min=1e-6), 1.0)
        return relevance if self.theta is None else torch.exp(relevance * (self.theta / (2.0 * (1.0 - self.theta))))
