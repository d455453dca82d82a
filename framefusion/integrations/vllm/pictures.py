"""The visual tokens of one picture, as a family lays them out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureGrid:
    """Where the visual tokens of a picture come from, in prompt order.

    rows, columns: of the picture, or of each of its `parts`, tiles of one size that are decided one by one.
    newline: one token closes it. tile_rows, tile_columns: of one grid of tiles that follows, with a newline behind each
    row; picture and grid are decided together. encoded: pictures that the tower encodes for it, 0 for one a part.
    """

    rows: int
    columns: int
    parts: int = 1
    newline: bool = False
    tile_rows: int = 0
    tile_columns: int = 0
    encoded: int = 0

    @staticmethod
    def flat(tokens: int) -> PictureGrid:
        """Tokens of which nobody says where they lie, such as embeddings that a client computed."""
        return PictureGrid(1, tokens)

    @staticmethod
    def squares(parts: int, tokens: int) -> PictureGrid:
        """As many square parts of one size."""
        side = round((tokens // parts) ** 0.5)
        return PictureGrid(side, side, parts)
