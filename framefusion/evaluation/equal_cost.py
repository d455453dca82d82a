"""Give methods with budgets of different kinds the same equivalent cost, by measuring it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.evaluation.prefill import prefill
from framefusion.inference.reduction import reduce_clips

if TYPE_CHECKING:
    from torch import nn

    from framefusion.core.method import Method

# Costs are fractions; closer than this is equal, and so is a small one only within this share of itself.
CLOSE, CLOSE_SHARE = 0.005, 0.04
HALVINGS = 12
# A cost that misses the one asked for by more is worth a note.
FAR, FAR_SHARE = 0.02, 0.15


def cost_of(model: nn.Module, method: Method, prompts: Sequence[Mapping[str, Any]], processor: Any = None) -> float:
    """Equivalent cost, averaged over prompts: the mean over layers of the visual tokens a layer reads.

    processor: that made the prompts, for methods that read pixels.
    """
    costs = []
    with reduce_clips(model, method, processor) as reduction:
        for prompt in prompts:
            prefill(model, prompt)
            costs.append(reduction.report.cost)
    return sum(costs) / len(costs)


def is_far(cost: float, target: float) -> bool:
    """Whether a cost is another one than the one asked for."""
    return abs(cost - target) > min(FAR, FAR_SHARE * target)


def takes_shares(method: Method) -> bool:
    """Whether the budget of `method` is free: a trained one whose budget counts something else is made for one."""
    if not getattr(method, "trained", False):
        return True
    try:
        method.with_budget(0.5)
    except OptionError:
        return False
    return True


def at_cost(
    model: nn.Module, method: Method, cost: float, prompts: Sequence[Mapping[str, Any]], processor: Any = None
) -> tuple[Method, float]:
    """`method` with the budget whose equivalent cost comes nearest to `cost`, and that cost as measured.

    A budget that acts before layer 0 costs what it keeps, so the first guess is `cost` itself; otherwise (layers that
    still read everything, thresholds) the budget is bisected, which needs a cost that grows with the budget.

    A trained method whose budget is no share is taken as it is.

    Raises OptionError for a method without a budget or a cost outside (0, 1].
    """
    if not 0.0 < cost <= 1.0:
        raise OptionError(f"an equivalent cost must be in (0, 1], got {cost}", hint="0.3 reads 30 % of the tokens")

    if not takes_shares(method):
        return method, cost_of(model, method, prompts, processor)

    def measured(value: float) -> tuple[Method, float]:
        chosen = method.with_budget(value)
        return chosen, cost_of(model, chosen, prompts, processor)

    close = min(CLOSE, CLOSE_SHARE * cost)
    best = last = measured(cost)
    low, high = (0.0, cost) if last[1] > cost else (cost, 1.0)
    for _ in range(HALVINGS):
        if abs(best[1] - cost) <= close:
            break
        middle = (low + high) / 2
        last = measured(middle)
        best = min(best, last, key=lambda found: abs(found[1] - cost))
        low, high = (low, middle) if last[1] > cost else (middle, high)
    return best
