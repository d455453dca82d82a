"""Families whose tower has a fixed input size: LLaVA-OneVision, LLaVA-NeXT-Video, InternVL, SmolVLM and Gemma 3.

At 56 pixels and a patch of 7 the tower sees an 8 x 8 grid; each family pools it 2 x 2, so a frame has 16 tokens.
"""

from __future__ import annotations

import transformers as hf

from tests.support.tiny_family import PATCH, PIXELS, Family, text_sizes, tower_sizes
from tests.support.tiny_words import Words, chat

PATCHES = (PIXELS // PATCH) ** 2
TOKENS = PATCHES // 4
SIDE_OF_TILE = PIXELS // PATCH // 2
SQUARE = {"height": PIXELS, "width": PIXELS}
PINPOINTS = [[PIXELS, PIXELS], [PIXELS, 2 * PIXELS], [2 * PIXELS, PIXELS]]

ONEVISION = Words(
    pad="<|endoftext|>",
    eos="<|im_end|>",
    others=("<|im_start|>", "<image>", "<video>"),
    named={"image_token": "<image>", "video_token": "<video>"},
)
NEXT_VIDEO = Words(
    pad="<pad>",
    eos="</s>",
    bos="<s>",
    others=("<video>", "<image>"),
    named={"image_token": "<image>", "video_token": "<video>"},
)
LLAVA = Words(
    pad="<pad>",
    eos="</s>",
    bos="<s>",
    others=("<image>",),
    named={"image_token": "<image>"},
)
INTERN = Words(
    pad="<|endoftext|>",
    eos="<|im_end|>",
    others=("<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
    named={
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
)
SMOL = Words(
    pad="<|im_end|>",
    eos="<end_of_utterance>",
    bos="<|im_start|>",
    others=("<fake_token_around_image>", "<image>", "<global-img>", "<video>"),
    named={
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "video_token": "<video>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    },
)
LLAVA_CHAT = chat(
    opening="ROLE: ",
    image="<image>\n",
    video="",
    closing=" ",
    answer="ASSISTANT:",
    start="<s>",
    user="USER",
)
GEMMA = Words(
    pad="<pad>",
    eos="<end_of_turn>",
    bos="<bos>",
    others=("<start_of_turn>", "<start_of_image>", "<image_soft_token>", "<end_of_image>"),
    named={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
)


def llava_onevision_config(layers: int = 4) -> hf.LlavaOnevisionConfig:
    return hf.LlavaOnevisionConfig(
        text_config=text_sizes(layers, model_type="qwen2") | ONEVISION.ids(),
        vision_config=tower_sizes(model_type="siglip_vision_model", vision_use_head=False),
        image_token_index=ONEVISION.id("<image>"),
        video_token_index=ONEVISION.id("<video>"),
        image_grid_pinpoints=PINPOINTS,
    )


def llava_onevision_processor() -> hf.LlavaOnevisionProcessor:
    return hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=PINPOINTS),
        tokenizer=ONEVISION.tokenizer(),
        video_processor=hf.LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=PATCHES,
        vision_feature_select_strategy="full",
        chat_template=chat(
            opening="<|im_start|>ROLE ",
            image="<image>",
            video="<video>",
            closing="<|im_end|>",
            answer="<|im_start|>assistant\n",
        ),
    )


def llava_next_video_config(layers: int = 4) -> hf.LlavaNextVideoConfig:
    return hf.LlavaNextVideoConfig(
        text_config=text_sizes(layers, model_type="llama") | NEXT_VIDEO.ids(),
        # The features come from the last layer but one, as in the real checkpoints.
        vision_config=tower_sizes(3, model_type="clip_vision_model", projection_dim=32),
        image_token_index=NEXT_VIDEO.id("<image>"),
        video_token_index=NEXT_VIDEO.id("<video>"),
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=PATCHES,
        video_seq_length=TOKENS,
    )


def llava_next_video_processor() -> hf.LlavaNextVideoProcessor:
    side = {"shortest_edge": PIXELS}
    return hf.LlavaNextVideoProcessor(
        image_processor=hf.LlavaNextImageProcessor(size=side, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS),
        tokenizer=NEXT_VIDEO.tokenizer(),
        video_processor=hf.LlavaNextVideoVideoProcessor(size=side, crop_size=SQUARE),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat(
            opening="ROLE: ",
            image="<image>\n",
            video="<video>\n",
            closing=" ",
            answer="ASSISTANT:",
            start="<s>",
            user="USER",
        ),
    )


def llava_config(layers: int = 4) -> hf.LlavaConfig:
    return hf.LlavaConfig(
        text_config=text_sizes(layers, model_type="llama") | LLAVA.ids(),
        # The features come from the last layer but one, as in the real checkpoints.
        vision_config=tower_sizes(3, model_type="clip_vision_model", projection_dim=32),
        image_token_index=LLAVA.id("<image>"),
        image_seq_length=PATCHES,
    )


def llava_processor() -> hf.LlavaProcessor:
    side = {"shortest_edge": PIXELS}
    return hf.LlavaProcessor(
        image_processor=hf.CLIPImageProcessor(size=side, crop_size=SQUARE),
        tokenizer=LLAVA.tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_CHAT,
    )


def internvl_config(layers: int = 4) -> hf.InternVLConfig:
    return hf.InternVLConfig(
        text_config=text_sizes(layers, model_type="qwen2") | INTERN.ids(),
        vision_config=tower_sizes(),
        image_token_id=INTERN.id("<IMG_CONTEXT>"),
        image_seq_length=TOKENS,
        tie_word_embeddings=False,
    )


def internvl_processor() -> hf.InternVLProcessor:
    return hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(size=SQUARE, min_patches=1, max_patches=2),
        tokenizer=INTERN.tokenizer(),
        video_processor=hf.InternVLVideoProcessor(size=SQUARE),
        image_seq_length=TOKENS,
        chat_template=chat(
            opening="<|im_start|>ROLE\n",
            image="<IMG_CONTEXT>\n",
            video="<video>\n",
            closing="<|im_end|>\n",
            answer="<|im_start|>assistant\n",
        ),
    )


def smolvlm_config(layers: int = 4) -> hf.SmolVLMConfig:
    return hf.SmolVLMConfig(
        text_config=text_sizes(layers, model_type="llama") | SMOL.ids(),
        vision_config=tower_sizes(),
        image_token_id=SMOL.id("<image>"),
        scale_factor=2,
        pad_token_id=SMOL.id(SMOL.pad),
    )


def smolvlm_processor() -> hf.SmolVLMProcessor:
    # Equal edges leave nothing to split off, so an image is one tile like a frame.
    side = {"size": {"longest_edge": PIXELS}, "max_image_size": {"longest_edge": PIXELS}}
    return hf.SmolVLMProcessor(
        image_processor=hf.SmolVLMImageProcessor(**side),
        tokenizer=SMOL.tokenizer(),
        video_processor=hf.SmolVLMVideoProcessor(**side, num_frames=64, fps=1),
        image_seq_len=TOKENS,
        chat_template=chat(
            opening="ROLE: ",
            image="<image>",
            video="<video>",
            closing="<end_of_utterance>\n",
            answer="Assistant:",
            start="<|im_start|>",
            user="User",
        ),
    )


def gemma3_config(layers: int = 4) -> hf.Gemma3Config:
    kinds = ["full_attention" if index % 3 == 2 else "sliding_attention" for index in range(layers)]
    return hf.Gemma3Config(
        text_config=text_sizes(layers, head_dim=16, query_pre_attn_scalar=16, sliding_window=24, layer_types=kinds)
        | GEMMA.ids(),
        vision_config=tower_sizes(model_type="siglip_vision_model", vision_use_head=False),
        mm_tokens_per_image=TOKENS,
        boi_token_index=GEMMA.id("<start_of_image>"),
        eoi_token_index=GEMMA.id("<end_of_image>"),
        image_token_index=GEMMA.id("<image_soft_token>"),
        tie_word_embeddings=False,
    )


def gemma3_processor() -> hf.Gemma3Processor:
    return hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size=SQUARE),
        tokenizer=GEMMA.tokenizer(),
        image_seq_length=TOKENS,
        chat_template=chat(
            opening="<start_of_turn>ROLE\n",
            image="<start_of_image>",
            video="",
            closing="<end_of_turn>\n",
            answer="<start_of_turn>model\n",
            start="<bos>",
        ),
    )


FAMILIES = (
    Family(
        "llava_onevision",
        "LlavaOnevisionForConditionalGeneration",
        llava_onevision_config,
        llava_onevision_processor,
        nested=True,
    ),
    Family(
        "llava_next_video",
        "LlavaNextVideoForConditionalGeneration",
        llava_next_video_config,
        llava_next_video_processor,
    ),
    Family("llava", "LlavaForConditionalGeneration", llava_config, llava_processor, videos=False),
    Family("internvl", "InternVLForConditionalGeneration", internvl_config, internvl_processor),
    # Its processor stores images and videos under the same key, the second overwriting the first.
    Family(
        "smolvlm",
        "SmolVLMForConditionalGeneration",
        smolvlm_config,
        smolvlm_processor,
        mixes=False,
        nested=True,
        needs="num2words",
    ),
    Family(
        "gemma3",
        "Gemma3ForConditionalGeneration",
        gemma3_config,
        gemma3_processor,
        videos=False,
        nested=True,
    ),
)
