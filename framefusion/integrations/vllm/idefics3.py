"""Idefics3 and SmolVLM: tiles of a fixed number of tokens with text between them, and the whole picture as the last."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.idefics3 import (
    Idefics3DummyInputsBuilder,
    Idefics3ForConditionalGeneration,
    Idefics3MultiModalProcessor,
    Idefics3ProcessingInfo,
)
from vllm.model_executor.models.smolvlm import SmolVLMForConditionalGeneration, SmolVLMProcessingInfo
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import ReducingModel
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.processor import ReducingProcessor


class Processor(ReducingProcessor, Idefics3MultiModalProcessor):
    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        if "num_patches" not in item:
            return PictureGrid.flat(tokens)
        return PictureGrid.squares(int(item["num_patches"].data), tokens)


class ReducedTiles(ReducingModel):
    text_model = "model"


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Idefics3ProcessingInfo, dummy_inputs=Idefics3DummyInputsBuilder)
class ReducedIdefics3(ReducedTiles, Idefics3ForConditionalGeneration):
    pass


@MULTIMODAL_REGISTRY.register_processor(Processor, info=SmolVLMProcessingInfo, dummy_inputs=Idefics3DummyInputsBuilder)
class ReducedSmolVLM(ReducedTiles, SmolVLMForConditionalGeneration):
    pass
