"""What became of every visual token of one prompt row, from the plans that were applied to it.

Shape legend in `framefusion/core/layout.py`; arrays here are numpy's. Tokens are numbered as in the row's layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from framefusion.core.plan import GONE

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Point
    from framefusion.core.plan import Plan
    from framefusion.engine.trace import Decision
    from framefusion.inference.report import Report

NOBODY = -1
"""Stands where no token does: holder of a token that was pruned."""

KEPT, MERGED, PRUNED = range(3)
"""TokenHistory. A token whose survivor was pruned later counts as pruned from then on."""


@dataclass(frozen=True)
class Step:
    """One plan that took visual tokens out.

    point: where it acted. method: whose it was, "" if that is not known. before, after: visual tokens alive.
    """

    point: Point
    method: str
    before: int
    after: int


@dataclass(frozen=True)
class TokenHistory:
    """How the N visual tokens of one prompt row ended.

    steps: S plans in the order they were applied; those that took nothing out are left out.
    gone: (N,) number of the step that took each token out, S where none did.
    into: (N,) token that stands for it from then on, NOBODY where it was pruned or stays.
    shares: for tokens that several others took a share of: all of these, `into` first.
    """

    steps: tuple[Step, ...]
    gone: np.ndarray
    into: np.ndarray
    shares: dict[int, tuple[int, ...]]

    def __len__(self) -> int:
        return self.gone.size

    def holders(self, after: int) -> np.ndarray:
        """(N,) token that stands for each one after the first `after` steps: itself, its survivor, or NOBODY."""
        holder = np.arange(len(self))
        for step in range(after):
            leaving = np.where(holder == NOBODY, False, self.gone[holder] == step)
            holder = np.where(leaving, self.into[holder], holder)
        return holder

    def states(self, after: int) -> np.ndarray:
        """(N,) KEPT, MERGED or PRUNED after the first `after` steps."""
        holder = self.holders(after)
        return np.select([holder == np.arange(len(self)), holder == NOBODY], [KEPT, PRUNED], MERGED)

    def carried(self, after: int) -> np.ndarray:
        """(N,) how many tokens each one stands for after the first `after` steps, itself included; 0 for none."""
        holder = self.holders(after)
        return np.bincount(holder[holder != NOBODY], minlength=len(self))

    def fresh(self, after: int) -> np.ndarray:
        """(N,) True where the latest of the first `after` steps changed who stands for the token."""
        return self.holders(after) != self.holders(max(0, after - 1))


def history_of_row(report: Report, row: int = 0) -> TokenHistory:
    """TokenHistory of one row of the latest prompt of a reduction; the prompt must have had visual tokens."""
    layout = report.layout
    assert layout is not None
    decisions = [decision for decision in report.decisions if decision.row == row]
    # Each stage that acts on a batch of one row makes one decision, so that the two lists run in parallel.
    names = [step.method for step in report.steps] if len(layout.rows) == 1 else []
    return history_of(layout.rows[row][1].columns, decisions, names)


def history_of(columns: Tensor, decisions: Sequence[Decision], methods: Sequence[str] = ()) -> TokenHistory:
    """columns: (N,) prompt columns of the visual tokens, ascending. decisions: of one row, in order of application.
    methods: name of the method behind each decision, if known.
    """
    token_at = {column: number for number, column in enumerate(columns.tolist())}
    count = len(token_at)
    gone, into = np.full(count, NOBODY), np.full(count, NOBODY)
    shares: dict[int, tuple[int, ...]] = {}
    steps: list[Step] = []
    for number, decision in enumerate(decisions):
        # Text between the frames is no patch: some plans act on it too.
        tokens = np.array([token_at.get(column, NOBODY) for column in decision.columns.tolist()], dtype=int)
        plan = _Arrays(decision.plan)
        out = plan.removed & (tokens != NOBODY)
        if not out.any():
            continue
        gone[tokens[out]] = len(steps)
        for place in out.nonzero()[0]:
            heads = [int(tokens[head]) for head in plan.heads(place) if tokens[head] != NOBODY]
            into[tokens[place]] = heads[0] if heads else NOBODY
            if len(heads) > 1:
                shares[int(tokens[place])] = tuple(heads)
        before = int((tokens != NOBODY).sum())
        method = methods[number] if number < len(methods) else ""
        steps.append(Step(decision.point, method, before, before - int(out.sum())))
    gone[gone == NOBODY] = len(steps)
    return TokenHistory(tuple(steps), gone, into, shares)


class _Arrays:
    """One plan, its tokens numbered from 0 as in the plan."""

    def __init__(self, plan: Plan) -> None:
        self.keep = _numpy(plan.keep)
        self.owner = _numpy(plan.owner)
        self.removed = np.ones(plan.count, dtype=bool)
        self.removed[self.keep] = False
        self.takers: dict[int, list[tuple[float, int]]] = {}
        if plan.target is not None and plan.source is not None and plan.weight is not None:
            entries = zip(*(_numpy(part).tolist() for part in (plan.weight, plan.source, plan.target)), strict=True)
            for weight, source, target in entries:
                self.takers.setdefault(source, []).append((weight, int(self.keep[target])))

    def heads(self, place: int) -> list[int]:
        """Survivors that took in token `place`: the one that stands for it, then others by the share they took."""
        owner = [int(self.keep[self.owner[place]])] if self.owner[place] != GONE else []
        others = sorted(self.takers.get(int(place), []), key=lambda entry: (-entry[0], entry[1]))
        return list(dict.fromkeys([*owner, *(head for _, head in others)]))


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().float().numpy() if tensor.is_floating_point() else tensor.detach().cpu().numpy()
