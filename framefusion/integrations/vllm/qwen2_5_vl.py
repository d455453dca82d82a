"""Qwen2.5-VL: one run of placeholders per video, three-part positions."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLMultiModalProcessor,
    Qwen2_5_VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.engine.vision.pixels import UnitGrid
from framefusion.integrations.vllm.model import ReducingRopeModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor


class GridProcessor(ReducingProcessor):
    """Videos and pictures that come with a grid of patches, of which a square makes one token."""

    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        merge = self.info.get_hf_config().vision_config.spatial_merge_size  # type: ignore[attr-defined]
        frames, height, width = item["video_grid_thw"].data.tolist()
        return (frames, height // merge, width // merge), False

    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        merge = self.info.get_hf_config().vision_config.spatial_merge_size  # type: ignore[attr-defined]
        _, height, width = item["image_grid_thw"].data.tolist()
        return PictureGrid(height // merge, width // merge)

    def unit_grid(self, pixels: Any, grid: tuple[int, int, int]) -> UnitGrid:
        vision = self.info.get_hf_config().vision_config  # type: ignore[attr-defined]
        return UnitGrid(grid[1], grid[2], vision.spatial_merge_size, vision.patch_size, grouped=True)


class Processor(GridProcessor, Qwen2_5_VLMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=Qwen2_5_VLProcessingInfo, dummy_inputs=Qwen2_5_VLDummyInputsBuilder
)
class ReducedQwen2_5_VL(ReducingRopeModel, Qwen2_5_VLForConditionalGeneration):
    pass
