"""Fuyu: a prompt shows one picture, a run of placeholders for each of its rows, each closed by one word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.placeholders import image_token
from framefusion.models.runs import Piece, Run, lay_pieces, runs_of

if TYPE_CHECKING:
    from torch import Tensor


def _pictures(runs: list[Run]) -> Iterator[Piece]:
    rows: list[Run] = []
    for run in [*runs, None]:
        if rows and not (run and len(run.opening) == 1 and len(run) == len(rows[0])):
            yield Piece(torch.cat([row.columns for row in rows]), Geometry.grid(1, len(rows), len(rows[0])))
            rows = []
        rows += [run] if run else []


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    return lay_pieces(ids, [list(_pictures(runs_of(row, [image_token(config)]))) for row in ids.cpu()])


FUYU = Family("fuyu", layout, video_as_images=True)
