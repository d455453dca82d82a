"""What the plugin can reduce: vLLM's architecture names and the classes that replace theirs. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

ROOM = "framefusion.integrations.vllm"

KEY = "visual_reduction"
"""Name of the settings in `hf_overrides` and in `mm_processor_kwargs`."""

REDUCED = "FrameFusion"
"""What the architecture name of a reducing class begins with; vLLM's own name follows."""


@dataclass(frozen=True)
class Served:
    """One architecture.

    model: "module:Class" of ours. stock: the same of vLLM's. tower_scores: attention of its vision tower can be read.
    """

    model: str
    stock: str
    tower_scores: bool = False


FAMILIES = {
    "Qwen2_5_VLForConditionalGeneration": Served(
        f"{ROOM}.qwen2_5_vl:ReducedQwen2_5_VL",
        "vllm.model_executor.models.qwen2_5_vl:Qwen2_5_VLForConditionalGeneration",
    ),
    "Qwen3VLForConditionalGeneration": Served(
        f"{ROOM}.qwen3_vl:ReducedQwen3VL",
        "vllm.model_executor.models.qwen3_vl:Qwen3VLForConditionalGeneration",
    ),
    "Qwen3VLMoeForConditionalGeneration": Served(
        f"{ROOM}.qwen3_vl:ReducedQwen3VLMoe",
        "vllm.model_executor.models.qwen3_vl_moe:Qwen3VLMoeForConditionalGeneration",
    ),
    "LlavaOnevisionForConditionalGeneration": Served(
        f"{ROOM}.llava_onevision:ReducedLlavaOnevision",
        "vllm.model_executor.models.llava_onevision:LlavaOnevisionForConditionalGeneration",
        tower_scores=True,
    ),
    "InternVLForConditionalGeneration": Served(
        f"{ROOM}.internvl:ReducedInternVL",
        "vllm.model_executor.models.interns1:InternS1ForConditionalGeneration",
        tower_scores=True,
    ),
}
