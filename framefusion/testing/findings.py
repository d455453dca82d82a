"""What a recorded case finds: the largest difference of any number, and everything that is not as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3
SHOWN = 12
"""Entries of a list that a message shows."""


@dataclass(frozen=True)
class Result:
    """One case: the largest difference of any number, and what is wrong if anything is.

    covered: a runner exists. choices: per declared difference that the case was compared for, whether it shows in it.
    """

    case: str
    kind: str
    difference: float
    problem: str = ""
    covered: bool = True
    choices: tuple[tuple[str, bool], ...] = ()

    @property
    def passed(self) -> bool:
        return not self.problem


class Findings:
    """Collects the largest difference and everything that is not as recorded."""

    def __init__(self) -> None:
        self.difference = 0.0
        self.problems: list[str] = []
        self.choices: dict[str, bool] = {}

    def close(self, what: str, found: Tensor, recorded: Tensor) -> None:
        if found.shape != recorded.shape:
            self.problems.append(f"{what}: shape {tuple(found.shape)}, recorded {tuple(recorded.shape)}")
            return
        difference = float((found.double() - recorded.double()).abs().max()) if found.numel() else 0.0
        self.difference = max(self.difference, difference)
        if not difference <= TOLERANCE:
            self.problems.append(f"{what}: off by {difference:.2e}")

    def close_as_sets(self, what: str, found: Tensor, recorded: Tensor) -> None:
        """found, recorded: (n, D) rows in any order, each of which has its own partner among the others."""
        if found.shape == recorded.shape and found.numel():
            found = found[nearest_rows(recorded, found)]
        self.close(what, found, recorded)

    def equal(self, what: str, found: Any, recorded: Any) -> None:
        found, recorded = list(found), list(recorded)
        if found != recorded:
            self.problems.append(f"{what}: {_short(found)}, recorded {_short(recorded)}")

    def same_set(self, what: str, found: Tensor, recorded: Tensor) -> None:
        """found, recorded: (n,) whole numbers in any order."""
        more, less = (set(a.tolist()) - set(b.tolist()) for a, b in ((found, recorded), (recorded, found)))
        if more or less or found.numel() != recorded.numel():
            self.problems.append(f"{what}: {_short(sorted(more))} not recorded, {_short(sorted(less))} missing")

    def true(self, what: str, holds: bool) -> None:
        if not holds:
            self.problems.append(what)

    def choice(self, name: str, shows: bool) -> None:
        """A declared difference was looked for, and shows in this case or does not."""
        self.choices[name] = self.choices.get(name, False) or shows

    def result(self) -> tuple[float, str]:
        return self.difference, "; ".join(self.problems)


def nearest_rows(rows: Tensor, among: Tensor) -> Tensor:
    """(n,) of the (m, D) rows of `among` the nearest one to each of the (n, D) rows, given out in turn, each once."""
    import torch

    distance = torch.cdist(rows.double(), among.double(), compute_mode="donot_use_mm_for_euclid_dist")
    taken = []
    for number in range(len(rows)):
        taken.append(distance[number].argmin())
        distance[:, taken[-1]] = float("inf")
    return torch.stack(taken)


def _short(values: list[Any]) -> str:
    return f"{values[:SHOWN]!r}" + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")
