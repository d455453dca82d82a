"""LLaVA-Video, whose model class is this package's: frames of 4 x 4 patches with a newline after each row."""

from __future__ import annotations

import transformers as hf

from framefusion.inference.llava_video.configuration import LlavaVideoConfig
from framefusion.inference.llava_video.processing import IMAGE, VIDEO, LlavaVideoProcessor, build_processor
from tests.support.tiny_family import Family, text_sizes, tower_sizes
from tests.support.tiny_tower import PINPOINTS
from tests.support.tiny_words import Words

WORDS = Words(
    pad="<|endoftext|>",
    eos="<|im_end|>",
    others=("<|im_start|>", IMAGE, VIDEO),
    named={"image_token": IMAGE, "video_token": VIDEO},
)


def config(layers: int = 4) -> LlavaVideoConfig:
    return LlavaVideoConfig(
        text_config=hf.Qwen2Config(**text_sizes(layers), **WORDS.ids()),
        vision_config=hf.SiglipVisionConfig(**tower_sizes(vision_use_head=False)),
        image_token_index=WORDS.id(IMAGE),
        video_token_index=WORDS.id(VIDEO),
        image_grid_pinpoints=PINPOINTS,
    )


def processor() -> LlavaVideoProcessor:
    return build_processor(config(), WORDS.tokenizer())


FAMILIES = (
    Family(
        "llava_qwen",
        "framefusion.inference.llava_video.modeling:LlavaVideoForConditionalGeneration",
        config,
        processor,
        nested=True,
    ),
)
