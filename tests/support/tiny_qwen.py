"""The Qwen-VL kin and VideoLLaMA 3: towers of any resolution that merge 2 x 2 patches of 7 pixels.

A frame of 56 pixels has 4 x 4 tokens. The Qwen kin merge two frames into one time step. VideoLLaMA 3 keeps every frame
of a video but its processor drops the tokens whose pixels did not change; its images are not merged (64 tokens).
"""

from __future__ import annotations

from typing import Any

import transformers as hf

from tests.support.tiny_family import HIDDEN, PATCH, Family, text_sizes
from tests.support.tiny_words import Words, chat

WORDS = Words(
    pad="<|endoftext|>",
    eos="<|im_end|>",
    others=("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    named={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
)
CHAT = chat(
    opening="<|im_start|>ROLE\n",
    image="<|vision_start|><|image_pad|><|vision_end|>",
    video="<|vision_start|><|video_pad|><|vision_end|>",
    closing="<|im_end|>\n",
    answer="<|im_start|>assistant\n",
)
# Any clip of a test may keep its own size: the bounds are far from what tests use.
AREA = {"shortest_edge": PATCH * PATCH * 4, "longest_edge": PATCH * PATCH * 4 * 4096}
VISUAL_IDS = {
    "image_token_id": WORDS.id("<|image_pad|>"),
    "video_token_id": WORDS.id("<|video_pad|>"),
}
VISION_IDS = VISUAL_IDS | {
    "vision_start_token_id": WORDS.id("<|vision_start|>"),
    "vision_end_token_id": WORDS.id("<|vision_end|>"),
}


def _rope(sections: list[int], **others: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections} | others


def _vision(**others: Any) -> dict[str, Any]:
    return {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2} | others


def qwen2_vl_config(layers: int = 4) -> hf.Qwen2VLConfig:
    return hf.Qwen2VLConfig(
        text_config=text_sizes(layers, rope_parameters=_rope([2, 3, 3])) | WORDS.ids(),
        vision_config=_vision(embed_dim=32, hidden_size=HIDDEN, mlp_ratio=2),
        **VISION_IDS,
    )


def qwen2_5_vl_config(layers: int = 4) -> hf.Qwen2_5_VLConfig:
    return hf.Qwen2_5_VLConfig(
        text_config=text_sizes(layers, rope_parameters=_rope([2, 3, 3])) | WORDS.ids(),
        # A window of two by two merged tokens, and one time position per grid step at four frames per second.
        vision_config=_vision(
            intermediate_size=64,
            out_hidden_size=HIDDEN,
            window_size=4 * PATCH,
            fullatt_block_indexes=[1],
            tokens_per_second=2,
        ),
        **VISION_IDS,
    )


def qwen3_vl_config(layers: int = 4) -> hf.Qwen3VLConfig:
    return hf.Qwen3VLConfig(
        text_config=text_sizes(layers, head_dim=16, rope_parameters=_rope([4, 2, 2], mrope_interleaved=True))
        | WORDS.ids(),
        vision_config=_vision(
            depth=3,
            intermediate_size=64,
            out_hidden_size=HIDDEN,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0, 1],
        ),
        **VISION_IDS,
    )


def qwen3_5_config(layers: int = 4) -> hf.Qwen3_5Config:
    return hf.Qwen3_5Config(
        text_config=text_sizes(
            layers,
            head_dim=16,
            # Attention at every second layer, so that even four layers hold two of each kind.
            layer_types=["full_attention" if index % 2 else "linear_attention" for index in range(layers)],
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            rope_parameters=_rope([2, 1, 1], mrope_interleaved=True, partial_rotary_factor=0.5),
        )
        | WORDS.ids(),
        vision_config=_vision(intermediate_size=64, out_hidden_size=HIDDEN, num_position_embeddings=64),
        **VISION_IDS,
    )


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def qwen3_vl_moe_config(layers: int = 4) -> hf.Qwen3VLMoeConfig:
    dense = qwen3_vl_config(layers)
    text = {**_sizes_of(dense.text_config), **EXPERTS}
    return hf.Qwen3VLMoeConfig(text_config=text, vision_config=_sizes_of(dense.vision_config), **VISION_IDS)


def qwen3_5_moe_config(layers: int = 4) -> hf.Qwen3_5MoeConfig:
    dense = qwen3_5_config(layers)
    text = {**_sizes_of(dense.text_config), **EXPERTS, "shared_expert_intermediate_size": 32}
    return hf.Qwen3_5MoeConfig(text_config=text, vision_config=_sizes_of(dense.vision_config), **VISION_IDS)


def _sizes_of(config: Any) -> dict[str, Any]:
    """What a dense configuration says, for its sibling with experts."""
    return {key: value for key, value in config.to_diff_dict().items() if key != "model_type"}


def video_llama_3_config(layers: int = 4) -> hf.VideoLlama3Config:
    return hf.VideoLlama3Config(
        text_config=text_sizes(layers, model_type="qwen2") | WORDS.ids(),
        vision_config={
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "patch_size": PATCH,
        },
        **VISUAL_IDS,
    )


def _processor(kind: type, images: type, videos: type) -> Any:
    sizes = {"patch_size": PATCH, "size": AREA}
    return kind(
        image_processor=images(**sizes),
        tokenizer=WORDS.tokenizer(),
        video_processor=videos(**sizes),
        chat_template=CHAT,
    )


def qwen2_vl_processor() -> hf.Qwen2VLProcessor:
    return _processor(hf.Qwen2VLProcessor, hf.Qwen2VLImageProcessor, hf.Qwen2VLVideoProcessor)


def qwen2_5_vl_processor() -> hf.Qwen2_5_VLProcessor:
    return _processor(hf.Qwen2_5_VLProcessor, hf.Qwen2VLImageProcessor, hf.Qwen2VLVideoProcessor)


def qwen3_vl_processor() -> hf.Qwen3VLProcessor:
    return _processor(hf.Qwen3VLProcessor, hf.Qwen2VLImageProcessor, hf.Qwen3VLVideoProcessor)


def video_llama_3_processor() -> hf.VideoLlama3Processor:
    return _processor(hf.VideoLlama3Processor, hf.VideoLlama3ImageProcessor, hf.VideoLlama3VideoProcessor)


FAMILIES = (
    Family("qwen2_vl", "Qwen2VLForConditionalGeneration", qwen2_vl_config, qwen2_vl_processor),
    Family("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", qwen2_5_vl_config, qwen2_5_vl_processor),
    Family("qwen3_vl", "Qwen3VLForConditionalGeneration", qwen3_vl_config, qwen3_vl_processor),
    Family("qwen3_5", "Qwen3_5ForConditionalGeneration", qwen3_5_config, qwen3_vl_processor),
    Family(
        "qwen3_vl_moe",
        "Qwen3VLMoeForConditionalGeneration",
        qwen3_vl_moe_config,
        qwen3_vl_processor,
        sibling="qwen3_vl",
    ),
    Family(
        "qwen3_5_moe",
        "Qwen3_5MoeForConditionalGeneration",
        qwen3_5_moe_config,
        qwen3_vl_processor,
        sibling="qwen3_5",
    ),
    Family("video_llama_3", "VideoLlama3ForConditionalGeneration", video_llama_3_config, video_llama_3_processor),
)
