"""Qwen2-VL: one run of placeholders per video, three-part positions that count time steps."""

from __future__ import annotations

from vllm.model_executor.models.qwen2_vl import (
    Qwen2VLDummyInputsBuilder,
    Qwen2VLForConditionalGeneration,
    Qwen2VLMultiModalProcessor,
    Qwen2VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import ReducingRopeModel
from framefusion.integrations.vllm.qwen2_5_vl import GridProcessor


class Processor(GridProcessor, Qwen2VLMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Qwen2VLProcessingInfo, dummy_inputs=Qwen2VLDummyInputsBuilder)
class ReducedQwen2VL(ReducingRopeModel, Qwen2VLForConditionalGeneration):
    pass
