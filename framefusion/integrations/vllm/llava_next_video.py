"""LLaVA-NeXT-Video: frames of one pooled size behind each other. vLLM gives it one video a request and no picture."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.llava_next_video import (
    LlavaNextVideoDummyInputsBuilder,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoMultiModalProcessor,
    LlavaNextVideoProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import WatchingModel
from framefusion.integrations.vllm.processor import ReducingProcessor


class Processor(ReducingProcessor, LlavaNextVideoMultiModalProcessor):
    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        frames = len(item["pixel_values_videos"].data)
        side = round((tokens // frames) ** 0.5)
        return (frames, side, side), False


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=LlavaNextVideoProcessingInfo, dummy_inputs=LlavaNextVideoDummyInputsBuilder
)
class ReducedLlavaNextVideo(WatchingModel, LlavaNextVideoForConditionalGeneration):
    tower_class_token = True
