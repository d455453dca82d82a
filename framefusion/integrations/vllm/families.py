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
    pixels: changes of its pixels can be counted in units that make one token each. videos: vLLM gives it videos.
    text_model: attribute that embeds text.
    """

    model: str
    stock: str
    tower_scores: bool = False
    pixels: bool = True
    videos: bool = True
    text_model: str = "language_model"


FAMILIES = {
    "Qwen2VLForConditionalGeneration": Served(
        f"{ROOM}.qwen2_vl:ReducedQwen2VL",
        "vllm.model_executor.models.qwen2_vl:Qwen2VLForConditionalGeneration",
    ),
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
    "Qwen3_5ForConditionalGeneration": Served(
        f"{ROOM}.qwen3_5:ReducedQwen3_5",
        "vllm.model_executor.models.qwen3_5:Qwen3_5ForConditionalGeneration",
    ),
    "Qwen3_5MoeForConditionalGeneration": Served(
        f"{ROOM}.qwen3_5:ReducedQwen3_5Moe",
        "vllm.model_executor.models.qwen3_5:Qwen3_5MoeForConditionalGeneration",
    ),
    "Glm4vForConditionalGeneration": Served(
        f"{ROOM}.glm4v:ReducedGlm4v",
        "vllm.model_executor.models.glm4_1v:Glm4vForConditionalGeneration",
    ),
    "Glm4vMoeForConditionalGeneration": Served(
        f"{ROOM}.glm4v:ReducedGlm4vMoe",
        "vllm.model_executor.models.glm4_1v:Glm4vMoeForConditionalGeneration",
    ),
    "MiniCPMV4_6ForConditionalGeneration": Served(
        f"{ROOM}.minicpm_v:ReducedMiniCPMV4_6",
        "vllm.model_executor.models.minicpmv4_6:MiniCPMV4_6ForConditionalGeneration",
        pixels=False,
    ),
    "MiniCPMV4_7ForConditionalGeneration": Served(
        f"{ROOM}.minicpm_v:ReducedMiniCPMV4_7",
        "vllm.model_executor.models.minicpmv4_7:MiniCPMV4_7ForConditionalGeneration",
        pixels=False,
    ),
    "LlavaNextVideoForConditionalGeneration": Served(
        f"{ROOM}.llava_next_video:ReducedLlavaNextVideo",
        "vllm.model_executor.models.llava_next_video:LlavaNextVideoForConditionalGeneration",
        tower_scores=True,
    ),
    "LlavaOnevisionForConditionalGeneration": Served(
        f"{ROOM}.llava_onevision:ReducedLlavaOnevision",
        "vllm.model_executor.models.llava_onevision:LlavaOnevisionForConditionalGeneration",
        tower_scores=True,
    ),
    "LlavaForConditionalGeneration": Served(
        f"{ROOM}.llava:ReducedLlava",
        "vllm.model_executor.models.llava:LlavaForConditionalGeneration",
        tower_scores=True,
        videos=False,
    ),
    "LlavaNextForConditionalGeneration": Served(
        f"{ROOM}.llava_next:ReducedLlavaNext",
        "vllm.model_executor.models.llava_next:LlavaNextForConditionalGeneration",
        videos=False,
    ),
    "Gemma3ForConditionalGeneration": Served(
        f"{ROOM}.gemma3:ReducedGemma3",
        "vllm.model_executor.models.gemma3_mm:Gemma3ForConditionalGeneration",
        tower_scores=True,
        videos=False,
    ),
    "Idefics3ForConditionalGeneration": Served(
        f"{ROOM}.idefics3:ReducedIdefics3",
        "vllm.model_executor.models.idefics3:Idefics3ForConditionalGeneration",
        videos=False,
        text_model="model",
    ),
    "SmolVLMForConditionalGeneration": Served(
        f"{ROOM}.idefics3:ReducedSmolVLM",
        "vllm.model_executor.models.smolvlm:SmolVLMForConditionalGeneration",
        videos=False,
        text_model="model",
    ),
    "InternVLForConditionalGeneration": Served(
        f"{ROOM}.internvl:ReducedInternVL",
        "vllm.model_executor.models.interns1:InternS1ForConditionalGeneration",
        tower_scores=True,
    ),
}

QUERIES = "its tokens are queries of a resampler, which stand for no place of a frame"
AUDIO = "the sound of a video stands between its frames, and its positions follow both"

UNSERVED = {
    "InternVLChatModel": "this is InternVL's older format; its checkpoints whose name ends with `-hf` are known",
    "MiniCPMO": QUERIES,
    "MiniCPMV": f"{QUERIES}; MiniCPM-V 4.6 and 4.7 in the Hugging Face format are known",
    "Mistral3ForConditionalGeneration": "its pictures are rows of any length with a token behind each",
    "Qwen2_5OmniForConditionalGeneration": AUDIO,
    "Qwen2_5OmniModel": AUDIO,
    "Qwen3OmniMoeForConditionalGeneration": AUDIO,
}
"""Architectures of vLLM with pictures or videos that are refused, and why; of others the plugin knows nothing."""
