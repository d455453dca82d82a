"""Agglomeration of neighbouring runs by Ward's criterion: what merges next costs least variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Share of the merges still to make that one round makes. Smaller is nearer to one at a time, and takes more rounds.
PER_ROUND = 0.25


@dataclass
class Runs:
    """Chain of N points, of which neighbouring ones have merged into runs. A run lies where its first point does.

    total: (N, D) float, sum of the points of each run. size: (N,) float, their weights together. following: (N,) first
    point of the next run, N behind the last one. before: (N,) first point of the run before, -1 in front of the first.
    parted: (N,) bool, runs that may not take in the run behind them. cost: (N,) what merging with it costs, infinite
    where that is not possible.
    """

    total: Tensor
    size: Tensor
    following: Tensor
    before: Tensor
    parted: Tensor
    cost: Tensor

    @staticmethod
    def of(points: Tensor, size: Tensor, parted: Tensor) -> Runs:
        """Every point is a run. points: (N, D) float. size: (N,) float above zero. parted: (N,) bool."""
        place = torch.arange(len(points), device=points.device)
        cost = points.new_full((len(points),), torch.inf)
        runs = Runs(points * size[:, None], size.clone(), place + 1, place - 1, parted.clone(), cost)
        runs.measure(place[:-1])
        return runs

    def measure(self, first: Tensor) -> None:
        """Compute the cost of the runs `first` (M,), each of which has a run behind it."""
        behind = self.following[first]
        size, other = self.size[first], self.size[behind]
        apart = self.total[first] / size[:, None] - self.total[behind] / other[:, None]
        cost = size * other / (size + other) * apart.square().sum(-1)
        worst = torch.finfo(cost.dtype).max
        self.cost[first] = torch.where(self.parted[first], torch.inf, cost.nan_to_num(worst, worst))

    def cheapest(self, count: int) -> Tensor:
        """At most `count` runs that cost less than either neighbour would, cheapest first; the earlier of two equal."""
        alive = (self.following > torch.arange(len(self.size), device=self.size.device)).nonzero().flatten()
        cost = self.cost[alive]
        edge = cost.new_full((1,), torch.inf)
        # Of equal neighbours every other one counts, so that runs of equal points halve in a round.
        even = torch.arange(len(cost), device=cost.device) % 2 == 0
        left, right = torch.cat([edge, cost[:-1]]), torch.cat([cost[1:], edge])
        lowest = torch.where(even, (cost <= left) & (cost <= right), (cost < left) & (cost < right))
        ready = alive[lowest & cost.isfinite()]
        return ready[self.cost[ready].sort(stable=True).indices[:count]]

    def merge(self, first: Tensor) -> None:
        """Every run of `first` (M,) takes in the one behind it; none of these is itself in `first`."""
        count, gone = len(self.size), self.following[first]
        self.total[first] += self.total[gone]
        self.size[first] += self.size[gone]
        self.parted[first] = self.parted[gone]
        self.following[first] = self.following[gone]
        self.following[gone] = -1
        behind = self.following[first]
        inner = behind < count
        self.before[behind[inner]] = first[inner]
        self.cost[first[~inner]] = torch.inf
        self.measure(first[inner])
        earlier = self.before[first]
        self.measure(earlier[earlier >= 0])

    def join(self) -> None:
        """From now on every run may take in the one behind it."""
        self.parted[:] = False
        place = torch.arange(len(self.size), device=self.size.device)
        self.measure(((self.following > place) & (self.following < len(place))).nonzero().flatten())


def ward_runs(points: Tensor, size: Tensor, parted: Tensor, kept: int) -> Tensor:
    """Merge neighbouring runs until `kept` are left, at least one.

    points: (N, D) float, in the order of the chain. size: (N,) float, weight of each point. parted: (N,) bool, points
    that do not merge with the one behind them while any others can merge.

    Rounds merge the cheapest of the runs that cost less than both neighbours, a quarter of what is left to do at a
    time; the cost is the variance that a merge adds, `a * b / (a + b) * distance ** 2` between means of sizes a and b
    (Ward, Journal of the American Statistical Association 58, 1963).

    Returns (N,) bool, the first point of every run.
    """
    runs, left = Runs.of(points, size, parted), len(points) - kept
    while left > 0:
        first = runs.cheapest(max(1, int(left * PER_ROUND)))
        if len(first):
            runs.merge(first)
            left -= len(first)
        else:
            runs.join()
    return runs.following >= 0
