"""Load a published LLaVA-Video checkpoint: config.json and weight names of the original, modules of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framefusion.errors import CheckpointError
from framefusion.llava_video.configuration import translate
from framefusion.llava_video.modeling import RENAMED, LlavaVideoForConditionalGeneration
from framefusion.llava_video.processing import IMAGE, VIDEO, build_processor

UNUSED = "post_layernorm"


def load(name: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Model and processor. settings: the checkpoint's config.json. options: of `from_pretrained`.

    Raises CheckpointError where the checkpoint has another shape or lacks weights.
    """
    from transformers import AutoTokenizer, PreTrainedConfig

    config = translate(name, settings)
    # Given a configuration, the tokenizer's loader does not look for one of a model type that it knows.
    tokenizer = AutoTokenizer.from_pretrained(name, config=PreTrainedConfig())
    processor = build_processor(config, tokenizer)
    config.image_token_index, config.video_token_index = tokenizer.convert_tokens_to_ids([IMAGE, VIDEO])
    model, found = LlavaVideoForConditionalGeneration.from_pretrained(
        name, config=config, key_mapping=RENAMED, output_loading_info=True, **options
    )
    missing = sorted(weight for weight in found["missing_keys"] if UNUSED not in weight)
    if missing:
        raise CheckpointError(
            f"cannot load the model `{name}`",
            f"it lacks {len(missing)} weights, such as {missing[0]}",
            "the published checkpoints hold the vision tower; adapters and other part checkpoints are not loaded",
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model, processor
