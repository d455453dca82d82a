"""Run the vision tower on a window of pictures at a time, so that its peak memory does not grow with the clip.

The tower's `forward` is shadowed on the instance and called once for each window; what it returns is joined. Towers
that attend within a picture give the same as for all pictures at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from framefusion.core.errors import UnsupportedPointError
from framefusion.engine import context
from framefusion.engine.model.calls import by_name, first_tensor, parameters_of
from framefusion.engine.vision.encoded import first_rows
from framefusion.engine.vision.run import Window

GRID, MERGES = "grid_thw", "merge_sizes"
PER_PATCH = ("hidden_states", "pixel_values")


class TowerWindows:
    """One tower.

    frames: of video, at most, in each window. finish: (run, output of a window) -> None, to make it whole.
    """

    def __init__(self, tower: Any, frames: int, finish: Callable[[Any, Any], None] | None) -> None:
        self.tower, self.finish = tower, finish
        self.pictures = max(1, frames // int(getattr(tower.config, "temporal_patch_size", 1) or 1))
        self._parameters = parameters_of(tower)

    def shadowed(self, forward: Callable) -> Callable:
        """What stands for the tower's `forward`."""

        @functools.wraps(forward)
        def windowed(*args: Any, **kwargs: Any) -> Any:
            run = context.tower()
            given, pixels = by_name(self._parameters, args, kwargs), first_tensor(args, kwargs)
            if run is None or pixels is None:
                return forward(*args, **kwargs)
            count = len(run.pictures) if run.grouped else pixels.shape[0]
            if count <= self.pictures:
                return forward(*args, **kwargs)
            rows = run.pictures if run.grouped else None
            weights = rows or [1] * count
            share = sum(weights) / sum(weights[: self.pictures])
            whole: dict[str, Any] = {}
            for first in range(0, count, self.pictures):
                window = Window(first, min(first + self.pictures, count))
                run.begin_window(window)
                output = forward(**self._cut(given, window, rows, count))
                if self.finish is not None:
                    self.finish(run, output)
                for name, value in _read_later(output, run.grouped).items():
                    whole[name] = _add(whole.get(name), value, share)
                made = type(output)
                del output, value  # not held while the tower works on the next window
            run.end_windows()
            return made(**{name: _finished(value) for name, value in whole.items()})

        return windowed

    def _cut(self, given: dict[str, Any], window: Window, rows: list[int] | None, count: int) -> dict[str, Any]:
        """Inputs of the tower for a window. rows: of every picture, where all are one sequence."""
        if rows is None:
            return {name: _of_batch(value, window, count) for name, value in given.items()}
        starts, cut = first_rows(rows), {}
        for name, value in given.items():
            if name in PER_PATCH:
                value = value[starts[window.first] : starts[window.last]]
            elif name == GRID:
                value = value.new_tensor([size for size, _ in _sizes(given, window)])
            elif name == MERGES:
                value = value.new_tensor([merge for _, merge in _sizes(given, window)])
            elif isinstance(value, Tensor):
                raise UnsupportedPointError(
                    f"{type(self.tower).__name__} was given `{name}` for all pictures at once",
                    "it is not known how to cut it to a window of frames",
                    "leave `tower_frames` out, or let the tower compute it",
                )
            cut[name] = value
        return cut


def _of_batch(value: Any, window: Window, count: int) -> Any:
    per_picture = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == count
    return value[window.first : window.last] if per_picture else value


def _sizes(given: dict[str, Any], window: Window) -> Iterator[tuple[list[int], int]]:
    """Frames, height and width of what a window holds of each image or video, with its merge size."""
    merges = given.get(MERGES)
    first = 0
    for number, (frames, height, width) in enumerate(given[GRID].tolist()):
        inside = min(first + frames, window.last) - max(first, window.first)
        if inside > 0:
            yield [inside, height, width], 1 if merges is None else int(merges[number])
        first += frames


def _read_later(output: Any, grouped: bool) -> dict[str, Any]:
    """The fields of a window's output that are kept. A model reads what a merger returns, not the four times as much
    that it was made of; an output object would hold on to a field that is set to None.
    """
    fields = dict(output.items())
    if grouped and fields.get("pooler_output") is not None:
        del fields["last_hidden_state"]
    return fields


class _Whole:
    """Tensors (n, ...) of the windows, one behind the other, in one place from the start, since two copies are more."""

    def __init__(self, first: Tensor, share: float) -> None:
        self.values = first.new_empty((round(first.shape[0] * share), *first.shape[1:]))
        self.rows = 0

    def add(self, part: Tensor) -> _Whole:
        end = self.rows + part.shape[0]
        if end > self.values.shape[0]:  # later pictures have more rows for each of their patches
            self.values = torch.cat([self.values[: self.rows], part])
        else:
            self.values[self.rows : end] = part
        self.rows = end
        return self


def _add(whole: Any, value: Any, share: float) -> Any:
    """`value` of a window behind those before. share: how many times as much all windows hold, said of the first."""
    if isinstance(value, Tensor):
        return (whole or _Whole(value, share)).add(value)
    if isinstance(value, tuple | list):
        before = whole or [None] * len(value)
        return type(value)(_add(part, one, share) for part, one in zip(before, value, strict=True))
    return value


def _finished(whole: Any) -> Any:
    if isinstance(whole, _Whole):
        return whole.values[: whole.rows]
    return type(whole)(map(_finished, whole)) if isinstance(whole, tuple | list) else whole
