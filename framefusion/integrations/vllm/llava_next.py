"""LLaVA-NeXT: a picture in the size of the tower, and below it the tiles it was cut into."""

from __future__ import annotations

from vllm.model_executor.models.llava import LlavaDummyInputsBuilder
from vllm.model_executor.models.llava_next import (
    LlavaNextForConditionalGeneration,
    LlavaNextMultiModalProcessor,
    LlavaNextProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import WatchingModel
from framefusion.integrations.vllm.tiled import TiledProcessor


class Processor(TiledProcessor, LlavaNextMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(Processor, info=LlavaNextProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder)
class ReducedLlavaNext(WatchingModel, LlavaNextForConditionalGeneration):
    tower_class_token = True
