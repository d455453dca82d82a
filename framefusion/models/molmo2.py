"""Molmo 2: a picture is a small view and a large one, a run for each row of both; a frame of a video is one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs
from framefusion.models.placeholders import image_token
from framefusion.models.runs import Piece, Run, lay_pieces, runs_of

if TYPE_CHECKING:
    from torch import Tensor

Sizes = Iterator[Sequence[int]]


def _pieces(runs: list[Run], frame_start: int | None, pictures: Sizes, videos: Sizes) -> Iterator[Piece]:
    """pictures: (rows and columns of the small view, then of the large one). videos: (frames, rows, columns).

    The tokens that close the rows of a picture are text.
    """
    columns = torch.cat([run.columns for run in runs]) if runs else torch.zeros(0, dtype=torch.long)
    starts = {int(run.columns[0]): run.opening[-1:] for run in runs}
    while columns.numel():
        if starts.get(int(columns[0])) == (frame_start,):
            frames, rows, width = next(videos)
            geometry = Geometry.grid(frames, rows, width)
        else:
            small_rows, small_columns, rows, width = next(pictures)
            geometry = Geometry.stacked([Geometry.grid(1, small_rows, small_columns), Geometry.grid(1, rows, width)])
        yield Piece(columns[: len(geometry)], geometry)
        columns = columns[len(geometry) :]


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    images, videos = inputs.get("image_grids"), inputs.get("video_grids")
    if images is None and videos is None:
        return by_runs(config, inputs, ids)
    pictures, clips = (iter(size.tolist() if size is not None else ()) for size in (images, videos))
    start = config.frame_start_token_id if images is not None else None
    rows = []
    for row in ids.cpu():
        runs = runs_of(row, [image_token(config)])
        only = runs[0].opening[-1] if runs and start is None else start
        rows.append(list(_pieces(runs, only, pictures, clips)))
    return lay_pieces(ids, rows)


MOLMO2 = Family("molmo2", layout)
