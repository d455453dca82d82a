"""LLaVA-OneVision: frames of one pooled size, closed by a newline token; pictures with a grid of tiles below them."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.llava_onevision import (
    LlavaOnevisionDummyInputsBuilder,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionMultiModalProcessor,
    LlavaOnevisionProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import WatchingModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor
from framefusion.models.anyres import tile_grid, tower_side

MOST_TILES = 9
"""Tiles' worth of patches above which vLLM resizes the tiles of a picture, whatever the checkpoint says."""


class Processor(ReducingProcessor, LlavaOnevisionMultiModalProcessor):
    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        frames = len(item["pixel_values_videos"].data)
        side = round(((tokens - 1) // frames) ** 0.5)
        return (frames, side, side), True

    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        """The picture in the size of the tower, and below it the tiles it was cut into."""
        config = self.info.get_hf_config()
        side, known = tower_side(config), item.get("image_sizes")
        if tokens == side * side + 1:
            return PictureGrid(side, side, newline=True)
        if known is None:
            return PictureGrid.flat(tokens)
        size, pixels = known.data.tolist(), config.vision_config.image_size
        rows, columns = tile_grid(size, config.image_grid_pinpoints, pixels, side, MOST_TILES)
        # Pictures that are processed together are padded to as many tiles.
        encoded = len(item["pixel_values"].data)
        return PictureGrid(side, side, tile_rows=rows, tile_columns=columns, encoded=encoded)


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=LlavaOnevisionProcessingInfo, dummy_inputs=LlavaOnevisionDummyInputsBuilder
)
class ReducedLlavaOnevision(WatchingModel, LlavaOnevisionForConditionalGeneration):
    pass
