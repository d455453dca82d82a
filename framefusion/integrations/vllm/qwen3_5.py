"""Qwen3.5 and its mixture of experts: Qwen3-VL's videos in front of a decoder of mostly linear attention.

Linear layers have no positions and no cache of tokens: fewer tokens are fewer steps of their state.
"""

from __future__ import annotations

from vllm.model_executor.models.qwen3_5 import (
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3_5MoeProcessingInfo,
    Qwen3_5ProcessingInfo,
)
from vllm.model_executor.models.qwen3_vl import Qwen3VLDummyInputsBuilder, Qwen3VLMultiModalProcessor
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import ReducingRopeModel
from framefusion.integrations.vllm.qwen2_5_vl import GridProcessor


class Processor(GridProcessor, Qwen3VLMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Qwen3_5ProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder)
class ReducedQwen3_5(ReducingRopeModel, Qwen3_5ForConditionalGeneration):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=Qwen3_5MoeProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder
)
class ReducedQwen3_5Moe(ReducingRopeModel, Qwen3_5MoeForConditionalGeneration):
    pass
