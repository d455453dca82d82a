"""Load a published LLaVA-Mini: a stock LLaVA of transformers, and its compressor and pre-fusion as a reducer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from framefusion.inference.published_reducers.recipe import Recipe, load, text_settings
from framefusion.inference.published_reducers.stored import renamed
from framefusion.methods.llava_mini import LLaVAMini

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint

CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
TOWERS: Mapping[str, Mapping[str, int]] = {"openai/clip-vit-large-patch14-336": CLIP_L_336}
WANTED: Mapping[str, tuple[Any, ...]] = {
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_vision_select_feature": (None, "patch"),
    "mm_patch_merge_type": (None, "flat"),
}
TEXT = ("rope_scaling", "head_dim", "attention_bias", "mlp_bias", "pretraining_tp")
published = renamed((("prefusion.layers.", "model.prefusion_layers."), ("", "model.")))
IMAGE = "<image>"
TEMPLATE = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def load_llava_mini(
    name: str, dtype: str = "auto", device: str | None = None, attention: str | None = None
) -> tuple[Checkpoint, LLaVAMini]:
    """A published LLaVA-Mini, such as `ICTNLP/llava-mini-llama-3.1-8b`.

    Args:
        name: path or hub id of a checkpoint in the published format, with weights in safetensors files.
        dtype: as for `load_checkpoint`.
        device: as for `load_checkpoint`.
        attention: as for `load_checkpoint`.

    Returns:
        A stock LLaVA with its processor, and the reducer: `reduce(checkpoint.model, reducer)` is LLaVA-Mini.

    Raises:
        CheckpointError: files that are missing or damaged, settings of another model, and in one error weights that are
            missing, of another size or nobody's.
        OptionError: a dtype or a device that is not there.
    """
    from transformers import LlavaForConditionalGeneration

    recipe = Recipe(
        "LLaVA-Mini",
        WANTED,
        {"image_token_index": IMAGE},
        LlavaForConditionalGeneration,
        _configured,
        _processor,
        lambda settings, config: LLaVAMini(settings.get("compressor_size", 2), settings.get("prefusion_layer_num", 4)),
        published,
    )
    checkpoint, method = load(name, recipe, dtype, device, attention)
    return checkpoint, cast(LLaVAMini, method)


def _configured(settings: Mapping[str, Any]) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    tower = settings["mm_vision_tower"]
    vision = CLIPVisionConfig(**TOWERS[tower]) if tower in TOWERS else CLIPVisionConfig.from_pretrained(tower)
    return LlavaConfig(
        text_config=LlamaConfig(**text_settings(settings, *TEXT)),
        vision_config=vision,
        vision_feature_layer=settings.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="default",
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        tie_word_embeddings=settings.get("tie_word_embeddings", False),
    )


def _processor(config: Any, tokenizer: Any) -> Any:
    """Pictures padded to squares, as the original does."""
    from transformers import LlavaImageProcessor, LlavaProcessor

    side = config.vision_config.image_size
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return LlavaProcessor(
        image_processor=LlavaImageProcessor(do_pad=True, **sizes),
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
