"""What is decided about one video or picture before anything is encoded, and travels with it to the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import PATCH, Geometry
from framefusion.core.plan import Plan
from framefusion.core.stage import join
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Signals
    from framefusion.integrations.vllm.pictures import PictureGrid
    from framefusion.integrations.vllm.rules import Decide


@dataclass(frozen=True)
class Recipe:
    """The reduction of one video or picture.

    frames, rows, columns: its grid of visual tokens. newline: one token closes it.
    kept: patches that stay. method, options: as in `Settings`.
    picture: it is no video; several frames are tiles of it then, and each is decided by itself.
    tile_rows, tile_columns: of the grid of its tiles that follows the frame, with a newline behind each row.
    encoded: pictures that the tower encodes for it.
    """

    frames: int
    rows: int
    columns: int
    newline: bool
    kept: int
    method: str
    options: dict[str, Any]
    picture: bool = False
    tile_rows: int = 0
    tile_columns: int = 0
    encoded: int = 0

    @staticmethod
    def write(settings: Settings, grid: tuple[int, int, int], newline: bool, changed: int = 0) -> Recipe:
        """Of a video. changed: tokens behind the first frame that are encoded, where pixels decide."""
        frames, per_frame = grid[0], grid[1] * grid[2]
        rule = RULES[settings.method]
        if isinstance(settings.keep, str) or rule.before_tower:
            kept = rule.count_from_pixels(changed, frames, per_frame)
        else:
            kept = rule.count(settings.keep, frames, per_frame)
        return Recipe(*grid, newline, kept, settings.method, dict(settings.options), encoded=frames)

    @staticmethod
    def of_picture(settings: Settings, grid: PictureGrid, distinct: int = 0) -> Recipe:
        """distinct: tokens that repeat no other in their pixels, where these decide."""
        assert not isinstance(settings.keep, str)
        each = grid.rows * grid.columns + grid.tile_rows * grid.tile_columns
        rule = RULES[settings.method]
        kept = distinct if rule.within else grid.parts * rule.count(settings.keep, 1, each)
        return Recipe(
            *(grid.parts, grid.rows, grid.columns, grid.newline, kept, settings.method, dict(settings.options)),
            picture=True,
            tile_rows=grid.tile_rows,
            tile_columns=grid.tile_columns,
            encoded=grid.encoded or grid.parts,
        )

    @property
    def patches(self) -> int:
        return self.frames * self.rows * self.columns + self.tile_rows * self.tile_columns

    @property
    def newlines(self) -> int:
        """They all stay: at least one patch does, and how many rows of tiles keep one is not known beforehand."""
        return int(self.newline) + self.tile_rows

    @property
    def total(self) -> int:
        """Visual tokens before."""
        return self.patches + self.newlines

    @property
    def total_kept(self) -> int:
        """Visual tokens after."""
        return self.kept + self.newlines

    @property
    def keeps_all(self) -> bool:
        return self.kept == self.patches

    @property
    def subject(self) -> str:
        """In an error: what it is of, with its sizes."""
        tiles = f" and tiles of {self.tile_rows} x {self.tile_columns}" if self.tile_rows else ""
        kind = "picture" if self.picture else "video"
        return f"a {kind} of {self.frames} x {self.rows} x {self.columns}{tiles} tokens"

    def geometry(self) -> Geometry:
        """Of the N visual tokens, in prompt order."""
        if self.tile_rows:
            tiles = Geometry.grid(1, self.tile_rows, self.tile_columns, row_newline=True)
            return Geometry.stacked([Geometry.grid(1, self.rows, self.columns), tiles])
        if self.picture and self.frames > 1:
            return Geometry.cat(Geometry.grid(1, self.rows, self.columns).as_clip(tile) for tile in range(self.frames))
        whole = Geometry.grid(self.frames, self.rows, self.columns)
        if not self.newline:
            return whole
        return Geometry.cat([whole, Geometry.newline(self.frames - 1, self.rows * self.columns)])

    def plan(self, signals: Signals) -> Plan:
        """The method's decision, which keeps exactly `total_kept` tokens: the prompt was made for them."""
        rule = RULES[self.method]
        keep = self.kept // self.frames if rule.per_frame or self.picture else self.kept
        decide = rule.decider(keep, self.options)
        plan = _with_newlines(decide, signals) if self.tile_rows else decide(signals)
        if plan.kept != self.total_kept:
            raise AssertionError(f"`{self.method}` kept {plan.kept} tokens where {self.total_kept} have room")
        return plan

    def pack(self) -> Tensor:
        """As bytes: only tensors travel between the engine's processes."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @staticmethod
    def unpack(data: Tensor) -> Recipe:
        return Recipe(**json.loads(bytes(data.tolist())))


def _with_newlines(decide: Decide, signals: Signals) -> Plan:
    """What is decided on the patches, and every newline."""
    patch = signals.geometry.kind == PATCH
    patches, others = (mask.nonzero().flatten() for mask in (patch, ~patch))
    plan = decide(signals.part(patches))
    return join(len(signals), [(patches, plan), (others, Plan.identity(len(others), others.device))])
