"""MiniCPM-V 4.6 and 4.7 in the Hugging Face format: a frame is an overview and maybe slices, with marks around each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vllm.model_executor.models.minicpmv import MiniCPMVDummyInputsBuilder
from vllm.model_executor.models.minicpmv4_6 import (
    MiniCPMV4_6ForConditionalGeneration,
    MiniCPMV4_6MultiModalProcessor,
    MiniCPMV4_6ProcessingInfo,
)
from vllm.model_executor.models.minicpmv4_7 import (
    MiniCPMV4_7ForConditionalGeneration,
    MiniCPMV4_7MultiModalProcessor,
    MiniCPMV4_7ProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import ReducingRopeModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor, Reserved


class FrameProcessor(ReducingProcessor):
    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        frames = len(item["video_image_sizes"].data)
        return (frames, *_grid(item.get("video_tgt_sizes"), frames, tokens // frames)), False

    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        return PictureGrid(*_grid(item.get("tgt_sizes"), 1, tokens))

    def _recompute_cached_prompt_update(self, cached_update: Any, new_item_idx: int) -> Any:
        """Another number in front of a picture or video; what was counted stays."""
        stock: Any = super()
        update = stock._recompute_cached_prompt_update(cached_update, new_item_idx)
        known = cached_update.content.is_embed
        if update.content is cached_update.content or not isinstance(known, Reserved):
            return update
        where = Reserved(update.content.is_embed(update.content.full), known.visual)
        return update.with_content(replace(update.content, is_embed=where))


def _grid(sizes: Any, pictures: int, tokens: int) -> tuple[int, int]:
    """Rows and columns of the `tokens` of each picture. sizes: patches of its parts."""
    if sizes is None or len(sizes.data) != pictures:
        # Overview and slices have no common grid; a token has the same number in every frame.
        return 1, tokens
    height, width = sizes.data[0].tolist()
    merged = round((height * width / tokens) ** 0.5)
    return height // merged, width // merged


class Processor4_6(FrameProcessor, MiniCPMV4_6MultiModalProcessor):
    pass


class Processor4_7(FrameProcessor, MiniCPMV4_7MultiModalProcessor):
    pass


class ReducedFrames(ReducingRopeModel):
    positions_from = ("video_tgt_sizes", "tgt_sizes")
    # Patches meet between its layers as well, where those of a window become one.
    tower_rows = None


@MULTIMODAL_REGISTRY.register_processor(
    Processor4_6, info=MiniCPMV4_6ProcessingInfo, dummy_inputs=MiniCPMVDummyInputsBuilder
)
class ReducedMiniCPMV4_6(ReducedFrames, MiniCPMV4_6ForConditionalGeneration):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    Processor4_7, info=MiniCPMV4_7ProcessingInfo, dummy_inputs=MiniCPMVDummyInputsBuilder
)
class ReducedMiniCPMV4_7(ReducedFrames, MiniCPMV4_7ForConditionalGeneration):
    pass
