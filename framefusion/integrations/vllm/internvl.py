"""InternVL in the Hugging Face format: frames of a fixed number of tokens with text between them."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.interns1 import (
    InternS1DummyInputsBuilder,
    InternS1ForConditionalGeneration,
    InternS1MultiModalProcessor,
    InternS1ProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import WatchingModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor


class Processor(ReducingProcessor, InternS1MultiModalProcessor):
    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        frames = int(item["video_num_patches"].data)
        side = round((tokens // frames) ** 0.5)
        return (frames, side, side), False

    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        """The tiles of a picture, and the whole of it as one more where there are several."""
        if "image_num_patches" not in item:
            return PictureGrid.flat(tokens)
        return PictureGrid.squares(int(item["image_num_patches"].data), tokens)


@MULTIMODAL_REGISTRY.register_processor(Processor, info=InternS1ProcessingInfo, dummy_inputs=InternS1DummyInputsBuilder)
class ReducedInternVL(WatchingModel, InternS1ForConditionalGeneration):
    tower_class_token = True
