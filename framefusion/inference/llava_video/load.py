"""Load a published LLaVA-Video checkpoint: config.json and weight names of the original, modules of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framefusion.inference.answer.foreign import reading
from framefusion.inference.answer.settings import check_placeholders, forget_code_of_parts
from framefusion.inference.answer.weights import check_loaded, check_size
from framefusion.inference.llava_video.configuration import translate
from framefusion.inference.llava_video.modeling import RENAMED, LlavaVideoForConditionalGeneration
from framefusion.inference.llava_video.processing import IMAGE, VIDEO, build_processor

# The published checkpoints lack it, and no hidden state that is read has passed it.
UNUSED = "vision_tower.post_layernorm"


def load(
    name: str, settings: Mapping[str, Any], options: Mapping[str, Any], trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """Model and processor. settings: the checkpoint's config.json. options: of `from_pretrained`.

    Raises CheckpointError where the checkpoint has another shape or lacks weights.
    """
    from transformers import AutoTokenizer, PreTrainedConfig

    with reading(name, "its configuration"):
        config = translate(name, settings, trust_remote_code)
    forget_code_of_parts(config)
    with reading(name, "its tokenizer"):
        # Given a configuration, the tokenizer's loader does not look for one of a model type that it knows.
        tokenizer = AutoTokenizer.from_pretrained(name, config=PreTrainedConfig(), trust_remote_code=trust_remote_code)
        processor = build_processor(config, tokenizer)
    config.image_token_index, config.video_token_index = tokenizer.convert_tokens_to_ids([IMAGE, VIDEO])
    check_size(name, lambda: LlavaVideoForConditionalGeneration(config), settings)
    with reading(name, "its model"):
        model, found = LlavaVideoForConditionalGeneration.from_pretrained(
            name,
            config=config,
            key_mapping=RENAMED,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=trust_remote_code,
            **options,
        )
    check_loaded(name, found, spared=UNUSED)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    check_placeholders(name, config)
    return model, processor
