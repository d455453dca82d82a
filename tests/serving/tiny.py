"""Toy families the other tests lack: GLM-4.1V, MiniCPM-V 4.6, LLaVA-NeXT, Idefics3; Gemma 3 as vLLM wants it.

At 56 pixels a picture has 16 tokens, 4 x 4; in LLaVA-NeXT 8 x 8, and as many for each tile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import transformers as hf

from tests.support.tiny_family import PATCH, PIXELS, Family, text_sizes, tower_sizes
from tests.support.tiny_qwen import AREA
from tests.support.tiny_tower import (
    GEMMA,
    LLAVA,
    LLAVA_CHAT,
    PATCHES,
    PINPOINTS,
    SQUARE,
    TOKENS,
    gemma3_config,
    gemma3_processor,
)
from tests.support.tiny_words import Words, chat

GLM = Words(
    pad="<|endoftext|>",
    eos="<|user|>",
    others=(
        *("<|begin_of_image|>", "<|image|>", "<|end_of_image|>"),
        *("<|begin_of_video|>", "<|video|>", "<|end_of_video|>"),
    ),
    named={"image_token": "<|image|>", "video_token": "<|video|>"},
)
MINICPM = Words(
    pad="<|endoftext|>",
    eos="<|im_end|>",
    others=(
        "<image>",
        "</image>",
        "<slice>",
        "</slice>",
        "<image_id>",
        "</image_id>",
        "<|image_pad|>",
        "<|video_pad|>",
    ),
    named={
        **{"image_start_token": "<image>", "image_end_token": "</image>"},
        **{"slice_start_token": "<slice>", "slice_end_token": "</slice>"},
        **{"image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>"},
        **{"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    },
)
IDEFICS = Words(
    pad="<|im_end|>",
    eos="<end_of_utterance>",
    bos="<|begin_of_text|>",
    others=("<fake_token_around_image>", "<image>", "<global-img>"),
    named={"image_token": "<image>"},
)
# vLLM joins the line breaks around pictures, for which the real vocabulary has tokens.
GEMMA_LINES = replace(GEMMA, others=(*GEMMA.others, *("\n" * count for count in range(1, 5))))


def glm4v_config(layers: int = 4) -> Any:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}
    return hf.Glm4vConfig(
        text_config=text_sizes(layers, rope_parameters=rope) | GLM.ids(),
        vision_config={
            **{"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": PATCH, "image_size": PIXELS},
            **{"spatial_merge_size": 2, "intermediate_size": 64, "out_hidden_size": 64},
        },
        image_token_id=GLM.id("<|image|>"),
        video_token_id=GLM.id("<|video|>"),
        image_start_token_id=GLM.id("<|begin_of_image|>"),
        image_end_token_id=GLM.id("<|end_of_image|>"),
        video_start_token_id=GLM.id("<|begin_of_video|>"),
        video_end_token_id=GLM.id("<|end_of_video|>"),
    )


def glm4v_processor() -> Any:
    sizes = {"patch_size": PATCH, "size": AREA}
    return hf.Glm4vProcessor(
        image_processor=hf.Glm4vImageProcessor(**sizes),
        tokenizer=GLM.tokenizer(),
        video_processor=hf.Glm4vVideoProcessor(**sizes),
        chat_template=chat(
            opening="<|ROLE|>\n",
            image="<|begin_of_image|><|image|><|end_of_image|>",
            video="<|begin_of_video|><|video|><|end_of_video|>",
            closing="",
            answer="<|assistant|>\n",
        ),
    )


def minicpm_config(layers: int = 4) -> Any:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    linear = {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
    return hf.MiniCPMV4_6Config(
        text_config=text_sizes(
            layers,
            model_type="qwen3_5_text",
            layer_types=["full_attention" if index % 2 else "linear_attention" for index in range(layers)],
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            rope_parameters={**rope, "partial_rotary_factor": 0.5},
            **linear,
        )
        | MINICPM.ids(),
        vision_config=tower_sizes(2, image_size=2 * PIXELS),
        insert_layer_id=0,
        image_token_id=MINICPM.id("<|image_pad|>"),
        video_token_id=MINICPM.id("<|video_pad|>"),
    )


def minicpm_processor() -> Any:
    """Pictures are enlarged to twice their side, and cut only where they are wide."""
    sizes = {"patch_size": PATCH, "scale_resolution": 2 * PIXELS}
    return hf.MiniCPMV4_6Processor(
        image_processor=hf.MiniCPMV4_6ImageProcessor(**sizes),
        video_processor=hf.MiniCPMV4_6VideoProcessor(**sizes),
        tokenizer=MINICPM.tokenizer(),
        chat_template=chat(
            opening="<|im_start|>ROLE\n",
            image="<|image_pad|>",
            video="<|video_pad|>",
            closing="<|im_end|>\n",
            answer="<|im_start|>assistant\n",
        ),
    )


def llava_next_config(layers: int = 4) -> Any:
    return hf.LlavaNextConfig(
        text_config=text_sizes(layers, model_type="llama") | LLAVA.ids(),
        # The features come from the last layer but one, as in the real checkpoints.
        vision_config=tower_sizes(3, model_type="clip_vision_model", projection_dim=32),
        image_token_index=LLAVA.id("<image>"),
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=PATCHES,
    )


def llava_next_processor() -> Any:
    side = {"shortest_edge": PIXELS}
    return hf.LlavaNextProcessor(
        image_processor=hf.LlavaNextImageProcessor(size=side, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS),
        tokenizer=LLAVA.tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_CHAT,
    )


def idefics3_config(layers: int = 4) -> Any:
    return hf.Idefics3Config(
        text_config=text_sizes(layers, model_type="llama") | IDEFICS.ids(),
        vision_config=tower_sizes(),
        image_token_id=IDEFICS.id("<image>"),
        scale_factor=2,
        pad_token_id=IDEFICS.id(IDEFICS.pad),
    )


def idefics3_processor() -> Any:
    """A picture is fitted into twice the tower's side and cut into tiles of that side."""
    return hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(
            size={"longest_edge": 2 * PIXELS}, max_image_size={"longest_edge": PIXELS}
        ),
        tokenizer=IDEFICS.tokenizer(),
        image_seq_len=TOKENS,
        chat_template=chat(
            opening="ROLE: ",
            image="<image>",
            video="",
            closing="<end_of_utterance>\n",
            answer="Assistant:",
            start="<|begin_of_text|>",
            user="User",
        ),
    )


def gemma3_lines() -> Any:
    processor = gemma3_processor()
    return hf.Gemma3Processor(
        image_processor=processor.image_processor,
        tokenizer=GEMMA_LINES.tokenizer(),
        image_seq_length=TOKENS,
        chat_template=processor.chat_template,
    )


FAMILIES = (
    Family("glm4v", "Glm4vForConditionalGeneration", glm4v_config, glm4v_processor),
    Family("minicpmv4_6", "MiniCPMV4_6ForConditionalGeneration", minicpm_config, minicpm_processor),
    Family("llava_next", "LlavaNextForConditionalGeneration", llava_next_config, llava_next_processor, videos=False),
    Family("gemma3", "Gemma3ForConditionalGeneration", gemma3_config, gemma3_lines, videos=False),
    Family("idefics3", "Idefics3ForConditionalGeneration", idefics3_config, idefics3_processor, videos=False),
)
