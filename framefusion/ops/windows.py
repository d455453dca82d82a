"""Cut a clip into windows of frames in which as much as possible stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def stillest_windows(still: Tensor, longest: int) -> tuple[list[tuple[int, int]], int]:
    """Windows (start, stop) that save most tokens, and how many: one token is left of a place that stands still.

    still: (F - 1, P) bool, whether a place looks in the next frame as in this one. longest: frames a window may have.
    By dynamic programming; of equals, the last window is the shortest.
    """
    frames = still.shape[0] + 1
    places = [still[start : start + longest - 1].int().cumprod(0).sum(1).tolist() for start in range(frames)]
    best, begin = [0] * (frames + 1), [0] * (frames + 1)
    for stop in range(1, frames + 1):
        first = max(0, stop - longest)
        saved = [
            best[start] + (places[start][stop - start - 2] * (stop - start - 1) if stop - start > 1 else 0)
            for start in range(first, stop)
        ]
        best[stop] = max(saved)
        begin[stop] = stop - 1 - saved[::-1].index(best[stop])
    windows, stop = [], frames
    while stop:
        windows.append((begin[stop], stop))
        stop = begin[stop]
    return windows[::-1], best[frames]
