"""LLaVA-1.5: pictures of one size, each a square of patches seen by CLIP or SigLIP."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.llava import (
    LlavaDummyInputsBuilder,
    LlavaForConditionalGeneration,
    LlavaMultiModalProcessor,
    LlavaProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.core.errors import UnsupportedModelError
from framefusion.integrations.vllm.model import WatchingModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor


class ProcessingInfo(LlavaProcessingInfo):
    def __init__(self, ctx: Any) -> None:
        super().__init__(ctx)
        tower = self.get_hf_config().vision_config.model_type
        if tower == "pixtral":
            raise UnsupportedModelError(
                "Pixtral cannot be reduced in vLLM", "its pictures are rows of any length with a token behind each"
            )


class Processor(ReducingProcessor, LlavaMultiModalProcessor):
    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        side = round(tokens**0.5)
        return PictureGrid(side, side) if side * side == tokens else PictureGrid.flat(tokens)


@MULTIMODAL_REGISTRY.register_processor(Processor, info=ProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder)
class ReducedLlava(WatchingModel, LlavaForConditionalGeneration):
    tower_class_token = True
