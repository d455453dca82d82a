"""The recorded function of HoliTom's outer stage, where ties leave a choice."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from framefusion.core.method import Signals
from framefusion.methods.holitom_outer import LONGEST, HoliTomOuter, stillest_windows
from framefusion.testing.findings import TOLERANCE, Findings
from framefusion.testing.published.cases import Case

Windows = list[tuple[int, int]]


def holitom_outer(case: Case, found: Findings) -> None:
    method = HoliTomOuter(**case.given("keep", "tau", "beta"))
    windows = sorted((int(start), int(stop)) for start, stop in case["windows"])
    signals = case.towered(case.clip(windows[-1][1]))
    still, total = method.still(signals), len(signals)
    best, saved = stillest_windows(still, LONGEST)
    found.equal("saved", [saved], [_saved(still, windows)])
    share = method.share(total, saved)
    found.close("share", torch.tensor([share]), case["share"])
    # Other windows that save as much are as good; those that were recorded are taken.
    found.choice("windows", best != windows)
    plan = method.merge(signals, still, windows, share)
    values, recorded = plan.apply(case["hidden"]), case["values"]
    ours, theirs = (torch.ones(len(rows), dtype=torch.bool) for rows in (values, recorded))
    for static in _static(signals, still, windows):
        wanted = round(share * len(static))
        slot = plan.owner[static[0, 0]]
        if wanted == 0:
            found.choice("groups", True)
            ours[slot] = False
        elif wanted == 1 and len(static) > 1:
            _lone_cluster(found, (slot, values, ours), (recorded, theirs), _centred(case, static, method.beta))
    found.close_as_sets("values", values[ours], recorded[theirs])


def _saved(still: Tensor, windows: Windows) -> int:
    """Tokens that the windows (start, stop) save."""
    return sum(int(still[start : stop - 1].all(0).sum()) * (stop - start - 1) for start, stop in windows)


def _static(signals: Signals, still: Tensor, windows: Windows) -> Iterator[Tensor]:
    """(n, frames) tokens of the places that stand still in each window that has some."""
    places = still.shape[1]
    for start, stop in windows:
        if stop - start > 1:
            steady = still[start : stop - 1].all(0).nonzero().flatten()
            if len(steady):
                yield steady[:, None] + torch.arange(start, stop)[None] * places


def _centred(case: Case, static: Tensor, beta: float) -> Tensor:
    """(n, D) what one cluster of the n places becomes, for each place as its centre."""
    means = case["hidden"][static].mean(1)
    others = (means.sum(0) - means) / (len(means) - 1)
    return beta * means + (1.0 - beta) * others


def _lone_cluster(
    found: Findings, own: tuple[Tensor, Tensor, Tensor], recorded: tuple[Tensor, Tensor], centred: Tensor
) -> None:
    """Take a cluster whose centre nothing but a tie decides out of the comparison, if the recording has another one.

    own: slot of the cluster, values and those still compared. recorded: the same of what was recorded.
    """
    (slot, values, ours), (rows, theirs) = own, recorded
    apart = (rows[:, None] - centred[None]).abs().amax(2).masked_fill(~theirs[:, None], float("inf"))
    row = apart.amin(1).argmin()
    if float(apart[row].min()) <= TOLERANCE:
        found.choice("noise", not torch.allclose(rows[row], values[slot], atol=TOLERANCE))
        ours[slot], theirs[row] = False, False
