"""Pictures of the LLaVA kin that are cut into tiles by their shape."""

from __future__ import annotations

from typing import Any

from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor
from framefusion.models.anyres import tile_grid, tower_side


class TiledProcessor(ReducingProcessor):
    """most_tiles: tiles' worth of patches above which vLLM resizes the tiles of a picture."""

    most_tiles: int | None = None

    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        """The picture in the size of the tower, and below it the tiles it was cut into."""
        config = self.info.get_hf_config()  # type: ignore[attr-defined]
        side, known = tower_side(config), item.get("image_sizes")
        if tokens == side * side + 1:
            return PictureGrid(side, side, newline=True)
        if known is None:
            return PictureGrid.flat(tokens)
        size, pixels = known.data.tolist(), config.vision_config.image_size
        rows, columns = tile_grid(size, config.image_grid_pinpoints, pixels, side, self.most_tiles)
        # Pictures that are processed together are padded to as many tiles.
        encoded = len(item["pixel_values"].data)
        return PictureGrid(side, side, tile_rows=rows, tile_columns=columns, encoded=encoded)
