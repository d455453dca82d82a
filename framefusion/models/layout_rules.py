"""Rules that find the visual tokens of a batch: templates in prompt order, laid over the placeholders of each row.

A template is the geometry of one video or image. Families differ only in how they make templates from the sizes that
come with a prompt, or from the runs of placeholders where no sizes exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import LayoutError
from framefusion.core.layout import Geometry, Layout
from framefusion.models.placeholders import image_token, placeholder_ids, video_token
from framefusion.models.runs import Piece, lay_pieces, neighbours, run_lengths, runs_of

if TYPE_CHECKING:
    from torch import Tensor

TEXT_MARK, NEWLINE_MARK = -1, -2
"""What stands for the id of a column where only embeddings are known."""

Templates = Callable[[Any, Mapping[str, Any]], Iterator[Geometry]]


def lay_templates(ids: Tensor, sources: Sequence[tuple[Tensor | int | None, Iterator[Geometry]]]) -> Layout:
    """Give every placeholder its place in the next template of its kind.

    ids: (B, L). sources: placeholder id, or (B, L) True where they stand, and the templates of the images, then of the
    videos, in prompt order over all rows. Pictures of earlier turns may come first among the templates; their
    placeholders are cached, and they are skipped.
    """
    ids = ids.cpu()
    masks = [_standing(ids, kind) for kind, _ in sources]
    made = [
        iter(latest(list(templates), int(mask.sum()), len(ids)))
        for mask, (_, templates) in zip(masks, sources, strict=True)
    ]
    rows = []
    for number in range(len(ids)):
        pieces: list[Piece] = []
        for mask, templates in zip(masks, made, strict=True):
            pieces += _over(mask[number].nonzero().flatten(), templates, number)
        rows.append(pieces)
    for templates in made:
        left = next(templates, None)
        if left is not None:
            raise _mismatch(len(rows) - 1, 0, len(left))
    return lay_pieces(ids, rows, video=None if sources[-1][0] is None else masks[-1])


def _standing(ids: Tensor, kind: Tensor | int | None) -> Tensor:
    """(B, L) True where a placeholder of `kind` stands."""
    if isinstance(kind, torch.Tensor):
        return kind.cpu()
    return torch.zeros_like(ids, dtype=torch.bool) if kind is None else ids.eq(kind)


def _over(columns: Tensor, templates: Iterator[Geometry], number: int) -> Iterator[Piece]:
    while columns.numel():
        template = next(templates, None)
        if template is None or len(template) == 0 or len(template) > columns.numel():
            raise _mismatch(number, columns.numel(), 0 if template is None else len(template))
        yield Piece(columns[: len(template)], template)
        columns = columns[len(template) :]


def _mismatch(row: int, columns: int, tokens: int) -> LayoutError:
    return LayoutError(
        f"row {row} of the prompt has {columns or 'no'} placeholders left for {tokens or 'no'} visual tokens",
        "the sizes that came with the prompt do not match its placeholders",
        "pass the processor's outputs together and uncut; in a later turn, the sizes of its new pictures",
    )


def latest(templates: list[Geometry], count: int, rows: int) -> list[Geometry]:
    """The last of the templates, as many as `count` placeholders take; all where that cannot be told.

    rows: of the batch; nobody knows which of several the pictures in front belong to, unless no placeholder is left.
    """
    first, surplus = 0, sum(map(len, templates)) - count
    while surplus > 0 and first < len(templates):
        surplus -= len(templates[first])
        first += 1
    return templates[first:] if surplus == 0 and (rows == 1 or not count) else templates


def lay_runs(ids: Tensor, tokens: Sequence[int], template_of: Callable[[int], Geometry] | None = None) -> Layout:
    """Layout from runs of placeholders alone: every run is one picture. template_of: its geometry, by its length."""
    ids = ids.cpu()
    make = template_of or (lambda count: flat_frames(1, count))
    rows = [[Piece(run.columns, make(len(run))) for run in runs_of(row, tokens)] for row in ids]
    return lay_pieces(ids, rows)


def flat_frames(frames: int, tokens: int) -> Geometry:
    """T frames of `tokens` patches; a square number of them is taken as a square grid."""
    side = round(tokens**0.5)
    rows, columns = (side, side) if side * side == tokens else (1, tokens)
    return Geometry.grid(frames, rows, columns)


def by_runs(
    config: Any, inputs: Mapping[str, Any], ids: Tensor, make: Callable[[int], Geometry] | None = None
) -> Layout:
    """Every run of placeholders is one picture; without placeholders every run of marked columns.

    Pictures of one size that stand side by side make one run; the number of pictures that came with it cuts it.
    make: the geometry of a picture by its length; a square of them is a grid without.
    """
    tokens = placeholder_ids(config)
    if not tokens:
        return lay_marks(ids)
    lengths = [count for token in tokens for count in run_lengths(ids, token)]
    pixels = inputs.get("pixel_values")
    pictures = len(pixels) if pixels is not None and getattr(pixels, "ndim", 0) == 4 else 0
    each = sum(lengths) // pictures if pictures > len(lengths) and sum(lengths) % pictures == 0 else 0
    if not each or any(length % each for length in lengths):
        return lay_runs(ids, tokens, make)
    return lay_sized(ids, tokens, each, make)


def lay_sized(ids: Tensor, tokens: Sequence[int], each: int, make: Callable[[int], Geometry] | None = None) -> Layout:
    """Layout of pictures of `each` tokens, also where several stand side by side. make: their geometry by length."""
    template = flat_frames(1, each) if make is None else make(each)
    rows = [
        [Piece(columns, template) for run in runs_of(row, tokens) for columns in run.columns.split(each)]
        for row in ids.cpu()
    ]
    return lay_pieces(ids, rows)


def by_grids(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout | None:
    """Layout from `image_grid_thw` and `video_grid_thw` (n, 3), None where they do not account for the placeholders."""
    merge = merge_of(config)
    sizes = (inputs.get("image_grid_thw"), inputs.get("video_grid_thw"))
    sources = [
        (mask, latest(list(grids(size, merge)), int(mask.sum()), len(ids)))
        for mask, size in zip(kinds_of(config, inputs, ids), sizes, strict=True)
        if size is not None and mask is not None
    ]
    if not sources or any(int(mask.sum()) != sum(map(len, templates)) for mask, templates in sources):
        return None
    return lay_templates(ids, [(mask, iter(templates)) for mask, templates in sources])


def kinds_of(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """(B, L) True at placeholders of pictures, and at those of videos.

    Some families (GLM-4V) write the frames of a video with the placeholder of pictures. Then the processor's token
    types tell them apart, or the tokens that open and close a video; a prompt with videos alone needs neither.
    """
    ids = ids.cpu()
    image, video = image_token(config), video_token(config)
    if image is None:
        return None, None
    pictures, videos = ids == image, ids == video if video is not None else torch.zeros_like(ids, dtype=torch.bool)
    if bool(videos.any()) and image != video:
        return pictures, videos
    if inputs.get("video_grid_thw") is None:
        return pictures, None
    if inputs.get("image_grid_thw") is None:
        return None, pictures
    types = inputs.get("mm_token_type_ids")
    if types is not None and types.shape == ids.shape and bool((types == VIDEO_TYPE).any()):
        inside = types.cpu() == VIDEO_TYPE
    else:
        start, end = (getattr(config, f"video_{edge}_token_id", None) for edge in ("start", "end"))
        inside = ids.eq(-1 if start is None else start).cumsum(1) > ids.eq(-1 if end is None else end).cumsum(1)
    return pictures & ~inside, pictures & inside


MERGES = ("spatial_merge_size", "merge_size", "merge_kernel_size")
VIDEO_TYPE = 2


def merge_of(config: Any) -> int:
    """How many patches of one side a tower makes one token of."""
    vision = getattr(config, "vision_config", None)
    found = next((value for name in MERGES if (value := getattr(vision, name, None))), 1)
    return int(found[0]) if isinstance(found, (list, tuple)) else int(found)


def grids(sizes: Any, merge: int, pooled: int = 1) -> Iterator[Geometry]:
    """One template per row of `sizes` (n, 3): patches are merged `merge` x `merge`, frames `pooled` at a time."""
    for frames, height, width in sizes.tolist() if sizes is not None else ():
        yield Geometry.grid(-(-frames // pooled), height // merge, width // merge)


def lay_marks(ids: Tensor, parts_of_run: Callable[[int], int] = lambda count: 1) -> Layout:
    """Layout of prompts whose columns are marked: TEXT_MARK, NEWLINE_MARK or, where a patch stands, anything else.

    Ids without a mark are those of a prompt that is all text.

    A run of columns that are not text is one picture, of `parts_of_run(its length)` tiles; one with newlines is
    taken as a clip whose frames each end in one.
    """
    if not bool((ids == TEXT_MARK).any()):
        ids = torch.full_like(ids, TEXT_MARK)
    rows = []
    for row in ids.cpu():
        runs = neighbours((row != TEXT_MARK).nonzero().flatten())
        parts = [part for run in runs for part in torch.tensor_split(run, parts_of_run(len(run)))]
        rows.append([Piece(columns, _marked(row[columns] == NEWLINE_MARK)) for columns in parts])
    return lay_pieces(ids, rows)


def _marked(newline: Tensor) -> Geometry:
    """newline: (n,) of one picture or clip."""
    if not bool(newline.any()):
        return flat_frames(1, len(newline))
    ends = newline.nonzero().flatten() + 1
    frames = []
    for piece in torch.tensor_split(newline, ends):
        closed = int(piece.sum())
        patches = piece.numel() - closed
        if piece.numel():
            frames.append(Geometry.cat([flat_frames(1, patches), *([Geometry.newline(0, patches)] * closed)]))
    return Geometry.following(frames)
