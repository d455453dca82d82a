"""GLM-4.1V, GLM-4.5V and GLM-4.6V: frames written with the placeholder of pictures, seconds between them, three-part
positions."""

from __future__ import annotations

from vllm.model_executor.models.glm4_1v import (
    Glm4vDummyInputsBuilder,
    Glm4vForConditionalGeneration,
    Glm4vMoeForConditionalGeneration,
    Glm4vMultiModalProcessor,
    Glm4vProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from framefusion.integrations.vllm.model import ReducingRopeModel
from framefusion.integrations.vllm.qwen2_5_vl import GridProcessor


class Processor(GridProcessor, Glm4vMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Glm4vProcessingInfo, dummy_inputs=Glm4vDummyInputsBuilder)
class ReducedGlm4v(ReducingRopeModel, Glm4vForConditionalGeneration):
    pass


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Glm4vProcessingInfo, dummy_inputs=Glm4vDummyInputsBuilder)
class ReducedGlm4vMoe(ReducingRopeModel, Glm4vMoeForConditionalGeneration):
    pass
