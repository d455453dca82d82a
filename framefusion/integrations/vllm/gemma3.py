"""Gemma 3: pictures of a fixed number of tokens, which see each other in both directions."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.gemma3_mm import (
    Gemma3DummyInputsBuilder,
    Gemma3ForConditionalGeneration,
    Gemma3MultiModalProcessor,
    Gemma3ProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.core.errors import OptionError
from framefusion.integrations.vllm.model import WatchingModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor


class Processor(ReducingProcessor, Gemma3MultiModalProcessor):
    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        if int(item["num_patches"].data) > 1:
            raise OptionError(
                "crops of a picture cannot be reduced in vLLM",
                "embeddings in one run see each other in both directions, and text between crops would be among them",
                "drop do_pan_and_scan, or leave pictures whole",
            )
        return PictureGrid.squares(1, tokens)


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Gemma3ProcessingInfo, dummy_inputs=Gemma3DummyInputsBuilder)
class ReducedGemma3(WatchingModel, Gemma3ForConditionalGeneration):
    pass
