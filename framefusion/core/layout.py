"""Where visual tokens come from (`Geometry`) and where they sit in the prompt (`Placement`).

Shape legend used throughout the package: B batch rows, L prompt length, N visual tokens of one row, K tokens that
survive, T frames, D hidden width, H heads. Everything here follows from sizes alone, so it also serves an engine that
must count tokens before it encodes any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from framefusion.core.errors import LayoutError

if TYPE_CHECKING:
    from torch import Tensor

TEXT, PATCH, NEWLINE, MARKER = -1, 0, 1, 2
"""Kinds of tokens. TEXT occurs only in the `span` scope, where a stage sees the text between frames too."""


@dataclass(frozen=True)
class Geometry:
    """Origin of each of the N visual tokens of one prompt row, in prompt order.

    Args:
        kind: one of PATCH, NEWLINE, MARKER (and TEXT in the `span` scope).
        clip: index of the video or image within the row.
        frame: index of the frame within its clip, in the order of time; a still picture has frame 0 alone.
        row: of the cell within the frame's grid; -1 where a token has none.
        column: of the cell within the frame's grid; -1 where a token has none.
        patch: index of the token within its frame, the "patch type" of the FrameFusion paper.

    Shapes:
        All (N,), of type long.

    Example:
        >>> geometry = ff.Geometry.grid(frames=2, rows=1, columns=3)
        >>> geometry.frame, geometry.column
        (tensor([0, 0, 0, 1, 1, 1]), tensor([0, 1, 2, 0, 1, 2]))
    """

    kind: Tensor
    clip: Tensor
    frame: Tensor
    row: Tensor
    column: Tensor
    patch: Tensor

    def __len__(self) -> int:
        return self.kind.numel()

    def __getitem__(self, index: Tensor) -> Geometry:
        return Geometry(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device) -> Geometry:
        """The same with its tensors on a device."""
        return Geometry(*(getattr(self, field.name).to(device) for field in fields(self)))

    def as_clip(self, clip: int, first_frame: int = 0) -> Geometry:
        """The same tokens as part of clip number `clip`, their frames counted from `first_frame`."""
        return Geometry(
            self.kind, torch.full_like(self.clip, clip), self.frame + first_frame, self.row, self.column, self.patch
        )

    def moved(self, rows: int, columns: int, patches: int) -> Geometry:
        """The same tokens in frame 0, so many rows further down, columns further right and patches further on."""
        row = torch.where(self.row < 0, self.row, self.row + rows)
        column = torch.where(self.column < 0, self.column, self.column + columns)
        return Geometry(self.kind, self.clip, self.frame * 0, row, column, self.patch + patches)

    @staticmethod
    def empty() -> Geometry:
        """No token at all."""
        return Geometry(*(torch.zeros(0, dtype=torch.long) for _ in fields(Geometry)))

    @staticmethod
    def cat(parts: Iterable[Geometry]) -> Geometry:
        """The tokens of all parts, one part behind the other, as they are."""
        parts = list(parts)
        if not parts:
            return Geometry.empty()
        return Geometry(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Geometry)))

    @staticmethod
    def grid(frames: int, rows: int, columns: int, row_newline: bool = False) -> Geometry:
        """A clip, or a picture as one frame, in reading order.

        Args:
            frames: number of frames.
            rows: rows of patches per frame.
            columns: patches per row.
            row_newline: whether a newline token closes each row.
        """
        width = columns + int(row_newline)
        index = torch.arange(frames * rows * width)
        frame, patch = index // (rows * width), index % (rows * width)
        row, column = patch // width, patch % width
        kind = torch.where(column == columns, NEWLINE, PATCH) if row_newline else torch.full_like(index, PATCH)
        return Geometry(kind, torch.zeros_like(index), frame, row, column, patch)

    @staticmethod
    def flat(frames: int, tokens: int) -> Geometry:
        """T frames of `tokens` each that lie on no grid, such as the queries of a resampler."""
        grid = Geometry.grid(frames, 1, tokens)
        return Geometry(grid.kind, grid.clip, grid.frame, grid.row * 0 - 1, grid.column * 0 - 1, grid.patch)

    @staticmethod
    def stacked(parts: Iterable[Geometry]) -> Geometry:
        """One frame from parts of one picture (overview, tiles): the rows of each part below those of the one before.

        Parts show the picture more than once or cut it up; none comes after another in time.
        """
        rows = patches = 0
        moved: list[Geometry] = []
        for part in parts:
            moved.append(part.moved(rows, 0, patches))
            rows += int(part.row.max()) + 1 if len(part) else 0
            patches += len(part)
        return Geometry.cat(moved)

    @staticmethod
    def following(parts: Iterable[Geometry]) -> Geometry:
        """One clip from its `parts`, each of one frame or several, in the order of time."""
        frames, moved = 0, []
        for part in parts:
            moved.append(part.as_clip(0, first_frame=frames))
            frames += int(part.frame.max()) + 1 if len(part) else 0
        return Geometry.cat(moved)

    @staticmethod
    def newline(frame: int, patch: int) -> Geometry:
        """One newline token that closes a clip or an image, counted to its last `frame`, at the place `patch` there."""
        one = torch.ones(1, dtype=torch.long)
        return Geometry(one * NEWLINE, one * 0, one * frame, -one, -one, one * patch)

    @staticmethod
    def mark() -> Geometry:
        """One token that opens, closes or parts a picture and lies on no cell."""
        one = torch.ones(1, dtype=torch.long)
        return Geometry(one * MARKER, one * 0, one * 0, -one, -one, one * 0)


@dataclass(frozen=True)
class Placement:
    """Where one row's visual tokens sit; everything else in the row is text or padding.

    columns: (N,) ascending prompt columns. video: (N,) True for tokens that a video placeholder stands for, None where
    the prompt knows one kind of placeholder only.
    """

    columns: Tensor
    video: Tensor | None = None

    def __getitem__(self, index: Tensor) -> Placement:
        return Placement(self.columns[index], None if self.video is None else self.video[index])

    def shifted(self, by: int) -> Placement:
        return Placement(self.columns + by, self.video)


@dataclass(frozen=True)
class Layout:
    """Geometry and placement of every row of a batch.

    Args:
        rows: for each row, where its visual tokens come from and where they sit.
        length: columns of the prompts.

    Raises:
        LayoutError: a row whose geometry and placement do not fit each other or the prompt.

    Example:
        >>> layout = ff.Layout.from_patch_types([[-1, 0, 1, 0, 1, -1]])  # two frames of two tokens between text
        >>> layout.visual_tokens, layout.rows[0][0].frame
        ([4], tensor([0, 0, 1, 1]))
    """

    rows: tuple[tuple[Geometry, Placement], ...]
    length: int

    def __post_init__(self) -> None:
        for number, (geometry, placement) in enumerate(self.rows):
            count = placement.columns.numel()
            if len(geometry) != count:
                raise LayoutError(
                    f"row {number} describes {len(geometry)} visual tokens but places {count}",
                    hint="give one geometry entry per visual token",
                )
            if count and not 0 <= int(placement.columns[0]) <= int(placement.columns[-1]) < self.length:
                raise LayoutError(
                    f"row {number} places visual tokens outside its {self.length} prompt columns",
                    hint="give ascending columns between 0 and the prompt's length",
                )

    @property
    def visual_tokens(self) -> list[int]:
        """How many each row has."""
        return [len(geometry) for geometry, _ in self.rows]

    def expand(self, batch: int) -> Layout:
        """Rows repeated up to `batch` rows, as `generate` repeats them for beams or several answers."""
        if batch == len(self.rows):
            return self
        if not self.rows or batch % len(self.rows):
            raise LayoutError(
                f"a layout of {len(self.rows)} rows does not fit a batch of {batch}",
                hint="describe every row of the batch, rows without visual tokens too",
            )
        repeats = batch // len(self.rows)
        return Layout(tuple(row for row in self.rows for _ in range(repeats)), self.length)

    def with_pictures_as_frames(self) -> Layout:
        """Neighbouring pictures of one size as the frames of one clip, for clips given as pictures; videos stay."""
        rows = []
        for geometry, placement in self.rows:
            clip, frame = geometry.clip.clone(), geometry.frame.clone()
            before: Geometry | None = None
            number, count = -1, 0
            for index in geometry.clip.unique().tolist():
                inside = geometry.clip == index
                part = geometry[inside]
                video = int(part.frame.max()) > 0 or (
                    placement.video is not None and bool(placement.video[inside].any())
                )
                joins = not video and before is not None and _same_shape(before, part)
                number, count = (number, count + 1) if joins else (number + 1, 0)
                before = None if video else part
                clip[inside], frame[inside] = number, part.frame + count
            rows.append((replace(geometry, clip=clip, frame=frame), placement))
        return Layout(tuple(rows), self.length)

    def tail(self, length: int) -> Layout:
        """The last `length` columns, for a prompt whose beginning is cached already."""
        first = self.length - length
        rows = []
        for geometry, placement in self.rows:
            inside = placement.columns >= first
            rows.append((geometry[inside], placement[inside].shifted(-first)))
        return Layout(tuple(rows), length)

    @staticmethod
    def from_patch_types(patch_types: Tensor | Sequence[Sequence[int]]) -> Layout:
        """Layout of a batch given as the published code does: -1 for text, else the index of the token in its frame.

        patch_types: (B, L). The frame of a token is the number of earlier tokens of the row with the same index.
        """
        table = torch.as_tensor(patch_types, dtype=torch.long)
        if table.ndim != 2:
            raise LayoutError(
                f"patch types must have shape (B, L), got {tuple(table.shape)}",
                hint="give one list per row, all of the prompt's length",
            )
        rows = []
        for types in table:
            columns = (types >= 0).nonzero().flatten()
            patch = types[columns]
            same = patch[:, None] == patch[None, :]
            frame = same.tril(-1).sum(1)
            zero = torch.zeros_like(patch)
            rows.append((Geometry(zero + PATCH, zero, frame, zero - 1, zero - 1, patch), Placement(columns)))
        return Layout(tuple(rows), table.shape[1])


def _same_shape(one: Geometry, other: Geometry) -> bool:
    names = ("kind", "row", "column", "patch")
    return len(one) == len(other) and all(bool((getattr(one, n) == getattr(other, n)).all()) for n in names)


def frame_numbers(geometry: Geometry) -> Tensor:
    """(N,) number of the frame each token belongs to, counted through all clips in prompt order from 0."""
    span = int(geometry.frame.max()) + 1 if len(geometry) else 1
    return torch.unique(geometry.clip * span + geometry.frame, return_inverse=True)[1]


def frame_groups(geometry: Geometry) -> list[Tensor]:
    """Indices of the tokens of each frame, in prompt order."""
    number = frame_numbers(geometry)
    return [(number == frame).nonzero().flatten() for frame in range(int(number.max()) + 1)] if len(geometry) else []


def cells_of(geometry: Geometry) -> tuple[Tensor, Tensor]:
    """(N,) row and (N,) column of every token. Raises LayoutError when a token has none."""
    if bool(((geometry.row < 0) | (geometry.column < 0)).any()):
        raise LayoutError(
            "this method needs the grid of every frame",
            "the layout says which frame a token belongs to but not its row and column",
            "give a Layout whose Geometry has rows and columns",
        )
    return geometry.row, geometry.column
