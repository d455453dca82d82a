"""TrimTokenator: drop the tokens farthest from the question, then keep the least similar of the rest.

Paper: Towards Adaptive Visual Token Pruning, https://arxiv.org/abs/2509.00320.

Differs from the published code: the authors have released none; this follows the abstract and re-implementations by
others. Distances are to the mean embedding of the question, which gives the same order as the mean distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.attention import question_rows
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import highest, least_similar
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import Keep, Share
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrimTokenator(SelectingMethod):
    """Two steps: closeness to the question, then diversity.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; a fraction is rounded to the nearest count.
        near: fraction of the patches that pass the first step, (0, 1]; never fewer than `keep` asks for.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.TrimTokenator(keep=0.111)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 57)
    """

    keep: Keep = 0.111
    near: Share = 0.8

    facts = MethodFacts(
        name="trimtokenator",
        title="TrimTokenator",
        paper="https://arxiv.org/abs/2509.00320",
        summary="drops the tokens farthest from the question, then keeps the least similar of the rest",
        stage="prompt, before layer 0",
        query_aware=True,
    )

    uses: ClassVar[frozenset[str]] = frozenset({"hidden", "text", "asks"})

    def select(self, signals: Signals, count: int) -> Tensor:
        total = len(signals)
        hidden = signals.hidden().to(torch.float32)
        question = question_rows(signals.text(), signals.asks()).to(torch.float32)
        near = torch.arange(total, device=hidden.device)
        if len(question):
            distance = (hidden - question.mean(0)).square().sum(1)
            near = highest(-distance, max(count, kept_count(self.near, total))).sort().values
        picks = least_similar(unit_rows(hidden[near]), count)
        return near[picks]
