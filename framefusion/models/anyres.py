"""Pictures cut into tiles by their shape ("anyres"): a base picture, then one grid of tiles with row newlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry
from framefusion.models.layout_rules import flat_frames, run_lengths

if TYPE_CHECKING:
    from torch import Tensor


def tower_side(config: Any) -> int:
    """Tokens along one side of a tile; Granite 4 makes fewer of them than there are patches."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    return int(side * Fraction(getattr(config, "downsample_rate", None) or 1))


def anyres_images(
    config: Any, sizes: Any, ids: Tensor, token: int | None, most: int | None = None
) -> Iterator[Geometry]:
    """One template per picture: the base picture, below it the tiles with newlines in their rows.

    sizes: (n, 2) height and width of the original pictures, None where they are unknown; then every run of `token` is
    a picture. most: tiles' worth of patches above which the tiles are resized. A picture that is not cut into tiles has
    its base alone, closed by one newline.
    """
    side = tower_side(config)
    lengths = list(run_lengths(ids, token))
    known = sizes.tolist() if sizes is not None else []
    if len(known) != len(lengths) and sum(lengths) == sum(_length(config, size, side, most) for size in known):
        lengths = [_length(config, size, side, most) for size in known]
    elif len(known) > len(lengths) and ids.shape[0] == 1:
        known = known[len(known) - len(lengths) :]  # pictures of earlier turns come first
    for number, length in enumerate(lengths):
        size = known[number] if number < len(known) else None
        rest = length - side * side
        if rest < 0:
            yield flat_frames(1, length)
            continue
        base = Geometry.grid(1, side, side)
        if rest == 1:
            yield Geometry.cat([base, Geometry.newline(0, side * side)])
            continue
        tiles = _tiles(config, size, side, rest, most) if rest else Geometry.empty()
        yield Geometry.stacked([base, tiles])


def _length(config: Any, size: Sequence[int], side: int, most: int | None) -> int:
    """Tokens of a picture that is cut into tiles."""
    rows, columns = tile_grid(size, config.image_grid_pinpoints, config.vision_config.image_size, side, most)
    return side * side + rows * (columns + 1)


def _tiles(config: Any, size: Sequence[int] | None, side: int, count: int, most: int | None) -> Geometry:
    if size is not None:
        rows, columns = tile_grid(size, config.image_grid_pinpoints, config.vision_config.image_size, side, most)
        if rows * (columns + 1) == count:
            return Geometry.grid(1, rows, columns, row_newline=True)
    return flat_frames(1, count)


def tile_grid(
    size: Sequence[int], pinpoints: Sequence[Sequence[int]], pixels: int, side: int, most: int | None
) -> tuple[int, int]:
    """Rows and columns of patches that are left of the tiles once their padding is taken off.

    size: height and width of the picture. pinpoints: sizes it may be fitted into. pixels, side: of one tile, in pixels
    and in patches.
    """
    height, width = size
    fit = _best_fit(height, width, pinpoints)
    rows, columns = fit[0] // pixels * side, fit[1] // pixels * side
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    shrink = (rows * columns / (most * side**2)) ** 0.5 if most else 1.0
    return (int(rows // shrink), int(columns // shrink)) if shrink > 1.1 else (rows, columns)


def _best_fit(height: int, width: int, pinpoints: Sequence[Sequence[int]]) -> Sequence[int]:
    """The size that shows most of the picture's pixels and wastes fewest of its own."""

    def shown(fit: Sequence[int]) -> tuple[int, int]:
        scale = min(fit[1] / width, fit[0] / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        return used, used - fit[0] * fit[1]

    return max(pinpoints, key=shown)
