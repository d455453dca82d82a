"""Rules that find the visual tokens of a batch: templates in prompt order, laid over the placeholders of each row.

A template is the geometry of one video or image. Families differ only in how they make templates from the sizes that
come with a prompt, or from the runs of placeholders where no sizes exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import LayoutError
from framefusion.layout import Geometry, Layout, Placement
from framefusion.models.placeholders import image_token, placeholder_ids, video_token

if TYPE_CHECKING:
    from torch import Tensor

TEXT_MARK, NEWLINE_MARK = -1, -2
"""What stands for the id of a column where only embeddings are known."""

Templates = Callable[[Any, Mapping[str, Any]], Iterator[Geometry]]


def lay_templates(ids: Tensor, sources: Sequence[tuple[int | None, Iterator[Geometry]]]) -> Layout:
    """Give every placeholder its place in the next template of its kind.

    ids: (B, L). sources: placeholder id and templates of the images, then of the videos, in prompt order over all rows.
    Pictures of earlier turns may come first among the templates; their placeholders are cached, and they are skipped.
    """
    ids = ids.cpu()
    sources = [(token, iter(latest(list(templates), _count(ids, token), len(ids)))) for token, templates in sources]
    rows = []
    for number, row in enumerate(ids):
        found: list[tuple[int, Tensor, Geometry]] = []
        for token, templates in sources:
            columns = (row == token).nonzero().flatten() if token is not None else row[:0]
            while columns.numel():
                template = next(templates, None)
                if template is None or len(template) == 0 or len(template) > columns.numel():
                    raise _mismatch(number, columns.numel(), 0 if template is None else len(template))
                found.append((int(columns[0]), columns[: len(template)], template))
                columns = columns[len(template) :]
        found.sort(key=lambda entry: entry[0])
        parts = [(columns, template.as_clip(clip)) for clip, (_, columns, template) in enumerate(found)]
        rows.append(_row(parts, video_of=row == sources[-1][0] if sources[-1][0] is not None else None))
    for _, templates in sources:
        left = next(templates, None)
        if left is not None:
            raise _mismatch(len(rows) - 1, 0, len(left))
    return Layout(tuple(rows), ids.shape[1])


def _mismatch(row: int, columns: int, tokens: int) -> LayoutError:
    return LayoutError(
        f"row {row} of the prompt has {columns or 'no'} placeholders left for {tokens or 'no'} visual tokens",
        "the sizes that came with the prompt do not match its placeholders",
        "pass the processor's outputs together and uncut; in a later turn, the sizes of its new pictures",
    )


def _count(ids: Tensor, token: int | None) -> int:
    return 0 if token is None else int((ids == token).sum())


def latest(templates: list[Geometry], count: int, rows: int) -> list[Geometry]:
    """The last of the templates, as many as `count` placeholders take; all where that cannot be told.

    rows: of the batch; nobody knows which of several the pictures in front belong to, unless no placeholder is left.
    """
    first, surplus = 0, sum(map(len, templates)) - count
    while surplus > 0 and first < len(templates):
        surplus -= len(templates[first])
        first += 1
    return templates[first:] if surplus == 0 and (rows == 1 or not count) else templates


def lay_runs(ids: Tensor, tokens: Sequence[int], frames_of_run: Callable[[int], int], consecutive: bool) -> Layout:
    """Layout from runs of placeholders alone.

    frames_of_run: frames in a run of that many tokens. consecutive: neighbouring runs with frames of equal size are
    frames of one clip, the rule for families that take a video as a series of images.
    """
    ids = ids.cpu()
    rows = []
    for row in ids:
        parts: list[tuple[Tensor, Geometry]] = []
        clip, frame, size = -1, 0, -1
        for columns in _runs(row, tokens):
            frames = frames_of_run(columns.numel())
            template = flat_frames(frames, columns.numel() // frames)
            if not consecutive or len(template) // frames != size:
                clip, frame, size = clip + 1, 0, len(template) // frames
            parts.append((columns, template.as_clip(clip, frame)))
            frame += frames
        rows.append(_row(parts))
    return Layout(tuple(rows), ids.shape[1])


def flat_frames(frames: int, tokens: int) -> Geometry:
    """T frames of `tokens` patches; a square number of them is taken as a square grid."""
    side = round(tokens**0.5)
    rows, columns = (side, side) if side * side == tokens else (1, tokens)
    return Geometry.grid(frames, rows, columns)


def by_runs(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """Every run of placeholders is one picture; without placeholders every run of marked columns."""
    tokens = placeholder_ids(config)
    return lay_runs(ids, tokens, lambda count: 1, consecutive=True) if tokens else lay_marks(ids)


def by_default(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """The rule of families nobody names: by the grids that come with the prompt, else every run is one picture."""
    return by_grids(config, inputs, ids) or by_runs(config, inputs, ids)


def by_grids(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout | None:
    """Layout from `image_grid_thw` and `video_grid_thw` (n, 3), None where they do not account for the placeholders.

    Some families (GLM-4V) write the frames of a video with the placeholder of images; of those a prompt has one kind.
    """
    images, videos = inputs.get("image_grid_thw"), inputs.get("video_grid_thw")
    merge = getattr(getattr(config, "vision_config", None), "spatial_merge_size", None) or 1
    image, video = image_token(config), video_token(config)
    if image is None:
        return None
    if video is None or not bool((ids == video).any()):
        video = image
    sources = [
        (token, latest(list(grids(sizes, merge)), _count(ids, token), len(ids)))
        for token, sizes in ((image, images), (video, videos))
        if sizes is not None
    ]
    if not sources or len({token for token, _ in sources}) < len(sources):
        return None
    if any(_count(ids, token) != sum(map(len, templates)) for token, templates in sources):
        return None
    return lay_templates(ids, [(token, iter(templates)) for token, templates in sources])


def grids(sizes: Any, merge: int) -> Iterator[Geometry]:
    """One template per row of `sizes` (n, 3), whose patches are merged `merge` x `merge`."""
    for frames, height, width in sizes.tolist() if sizes is not None else ():
        yield Geometry.grid(frames, height // merge, width // merge)


def run_lengths(ids: Tensor, token: int | None) -> Iterator[int]:
    """Lengths of the runs of `token` in all rows of `ids` (B, L), in order."""
    for row in ids:
        if token is not None:
            yield from (columns.numel() for columns in _runs(row, [token]))


def lay_marks(ids: Tensor, frames_of_run: Callable[[int], int] = lambda count: 1) -> Layout:
    """Layout of prompts whose columns are marked: TEXT_MARK, NEWLINE_MARK or, where a patch stands, anything else.

    Ids without a mark are those of a prompt that is all text.

    A run of columns that are not text is one picture, or `frames_of_run(its length)` of them; one with newlines is
    taken as frames that each end in one. Neighbouring frames of one size belong to one clip.
    """
    if not bool((ids == TEXT_MARK).any()):
        ids = torch.full_like(ids, TEXT_MARK)
    rows = []
    for row in ids.cpu():
        parts: list[tuple[Tensor, Geometry]] = []
        clip, frame, size = -1, 0, -1
        for columns in _neighbours((row != TEXT_MARK).nonzero().flatten()):
            for piece in _frames(columns, row[columns] == NEWLINE_MARK, frames_of_run):
                closed = int(row[piece[-1]] == NEWLINE_MARK)
                patches = piece.numel() - closed
                if patches != size:
                    clip, frame, size = clip + 1, 0, patches
                template = [flat_frames(1, patches), *([Geometry.newline(0, patches)] * closed)]
                parts.append((piece, Geometry.cat(template).as_clip(clip, frame)))
                frame += 1
        rows.append(_row(parts))
    return Layout(tuple(rows), ids.shape[1])


def _frames(columns: Tensor, newline: Tensor, frames_of_run: Callable[[int], int]) -> Sequence[Tensor]:
    if bool(newline.any()):
        ends = newline.nonzero().flatten() + 1
        return [piece for piece in torch.tensor_split(columns, ends) if piece.numel()]
    return torch.tensor_split(columns, frames_of_run(columns.numel()))


def _neighbours(columns: Tensor) -> Sequence[Tensor]:
    """Runs of columns without a gap."""
    return torch.tensor_split(columns, (columns.diff() > 1).nonzero().flatten() + 1) if columns.numel() else ()


def _runs(row: Tensor, tokens: Sequence[int]) -> Iterator[Tensor]:
    for token in tokens:
        yield from _neighbours((row == token).nonzero().flatten())


def _row(parts: list[tuple[Tensor, Geometry]], video_of: Tensor | None = None) -> tuple[Geometry, Placement]:
    """video_of: (L,) True at video placeholders."""
    if not parts:
        return Geometry.empty(), Placement(torch.zeros(0, dtype=torch.long))
    columns = torch.cat([columns for columns, _ in parts])
    geometry = Geometry.cat(geometry for _, geometry in parts)
    order = columns.argsort()
    columns = columns[order]
    return geometry[order], Placement(columns, None if video_of is None else video_of[columns])
