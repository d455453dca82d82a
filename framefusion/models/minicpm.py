"""MiniCPM-V: a picture, or a frame of a video, is an overview and rows of slices, each a run of its own.

The processor returns the patches (height, width) of every run. No time stands between frames: the marks that close one
and open the next touch, and any other text ends the clip. Two videos of one size with nothing between them look like
one, except where the processor numbers them (`<image_id>0</image_id>`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import flat_frames
from framefusion.models.placeholders import image_token, video_token
from framefusion.models.runs import Piece, Run, lay_pieces, runs_of

if TYPE_CHECKING:
    from torch import Tensor

TOUCHING = 2
"""Tokens between two frames, and between two slices of a row; a line break stands between rows of slices."""


def _part(run: Run, sizes: Iterator[Sequence[int]]) -> Geometry:
    height, width = next(sizes, (0, 0))
    merged = round((height * width / len(run)) ** 0.5)
    return Geometry.grid(1, height // merged, width // merged) if merged else flat_frames(1, len(run))


def _pieces(
    runs: Sequence[Run], sizes: Mapping[int | None, Iterator[Sequence[int]]], video: int | None
) -> Iterator[Piece]:
    opens, before = runs[0].opening[-1:] if runs else (), None
    for first, run in enumerate(runs):
        if run.opening[-1:] != opens:
            continue  # a slice
        end = next((n for n in range(first + 1, len(runs)) if runs[n].opening[-1:] == opens), len(runs))
        parts = [(part, _part(part, sizes[part.token])) for part in runs[first:end]]
        shape = [(len(geometry), int(geometry.row.max())) for _, geometry in parts]
        follows = run.token == video and len(run.opening) == TOUCHING and before == shape
        before = shape if run.token == video else None
        yield from _picture(parts, follows)


def _picture(parts: Sequence[tuple[Run, Geometry]], follows: bool) -> Iterator[Piece]:
    """One piece: the overview, below it the slices, those of a row beside each other."""
    overview, slices = parts[0][1], parts[1:]
    placed, top, left = [overview], int(overview.row.max()) + 1, 0
    for number, (run, geometry) in enumerate(slices):
        if number and len(run.opening) != TOUCHING:
            top, left = top + int(slices[number - 1][1].row.max()) + 1, 0
        placed.append(geometry.moved(top, left, sum(map(len, placed))))
        left += int(geometry.column.max()) + 1
    yield Piece(torch.cat([run.columns for run, _ in parts]), Geometry.cat(placed), follows)


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    image, video = image_token(config), video_token(config)
    found = ((image, inputs.get("target_sizes")), (video, inputs.get("target_sizes_videos")))
    counts = {token: sum(len(runs_of(row, [token])) for row in ids.cpu()) for token, _ in found}
    # Parts of earlier turns come first.
    sizes = {token: iter(size.tolist()[-counts[token] :] if size is not None else ()) for token, size in found}
    return lay_pieces(ids, [list(_pieces(runs_of(row, [image, video]), sizes, video)) for row in ids.cpu()])


MINICPM_V_4_6 = Family("minicpmv4_6", layout)
MINICPM_V_4_7 = Family("minicpmv4_7", layout)
MINICPM_OCR = Family("minicpm_ocr", layout)
