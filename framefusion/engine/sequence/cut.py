"""The plan of one row, placed in the sequence of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.plan import Plan


@dataclass(frozen=True)
class Cut:
    """The plan of one row, placed in the sequence.

    old: (N,) slots the plan acts on. new: (K,) slots of its survivors afterwards. visual: (N,) False for text in the
        `span` scope.
    """

    number: int
    plan: Plan
    old: Tensor
    new: Tensor
    visual: Tensor

    def apply_to_visual(self, values: Tensor) -> Tensor:
        """Values of the row's visual tokens alone, (N_visual, D) -> (K_visual, D)."""
        device = values.device
        plan, visual = self.plan.to(device), self.visual.to(device)
        spread = values.new_zeros(plan.count, values.shape[-1])
        spread[visual] = values
        return plan.apply(spread)[visual[plan.keep]]
