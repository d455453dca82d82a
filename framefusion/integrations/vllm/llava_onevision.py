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
from framefusion.integrations.vllm.tiled import TiledProcessor


class Processor(TiledProcessor, LlavaOnevisionMultiModalProcessor):
    most_tiles = 9  # whatever the checkpoint says

    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        frames = len(item["pixel_values_videos"].data)
        side = round(((tokens - 1) // frames) ** 0.5)
        return (frames, side, side), True


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=LlavaOnevisionProcessingInfo, dummy_inputs=LlavaOnevisionDummyInputsBuilder
)
class ReducedLlavaOnevision(WatchingModel, LlavaOnevisionForConditionalGeneration):
    pass
