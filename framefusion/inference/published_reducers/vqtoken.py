"""Load a published VQToken: a stock LLaVA-OneVision of transformers, and its attention over clusters as a reducer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from framefusion.inference.llava_video.configuration import aspect_ratio_of, pinpoints_of, tower_of
from framefusion.inference.llava_video.processing import HALF, IMAGE, TEMPLATE, VIDEO
from framefusion.inference.published_reducers.recipe import Recipe, load, text_settings
from framefusion.inference.published_reducers.stored import renamed
from framefusion.methods.vqtoken import VQToken

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint

WANTED: Mapping[str, tuple[Any, ...]] = {
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_vision_select_feature": (None, "patch"),
    "mm_patch_merge_type": ("spatial_unpad",),
    "mm_spatial_pool_mode": (None, "bilinear"),
    "mm_resampler_type": (None,),
}
published = renamed((("", "model.cross_attention."),))


def load_vqtoken(
    name: str, dtype: str = "auto", device: str | None = None, attention: str | None = None
) -> tuple[Checkpoint, VQToken]:
    """A published VQToken, such as `haichaozhang/VQ-Token-llava-ov-0.5b`.

    Args:
        name: path or hub id of a checkpoint in the published format, with weights in safetensors files.
        dtype: as for `load_checkpoint`.
        device: as for `load_checkpoint`.
        attention: as for `load_checkpoint`.

    Returns:
        A stock LLaVA-OneVision with its processor, and the reducer with the published attention. The released code does
        not call that attention: what it runs is `VQTokenBase(strict=True)` on the same model.

    Raises:
        CheckpointError: files that are missing or damaged, settings of another model, and in one error weights that are
            missing, of another size or nobody's.
        OptionError: a dtype or a device that is not there.
    """
    from transformers import LlavaOnevisionForConditionalGeneration

    recipe = Recipe(
        "VQToken",
        WANTED,
        {"image_token_index": IMAGE, "video_token_index": VIDEO},
        LlavaOnevisionForConditionalGeneration,
        _configured,
        _processor,
        _method,
        published,
        # The tower's states are read in front of it.
        lambda key: "vision_model.post_layernorm." in key or "vision_model.head." in key,
    )
    checkpoint, method = load(name, recipe, dtype, device, attention)
    return checkpoint, cast(VQToken, method)


def _configured(settings: Mapping[str, Any]) -> Any:
    from transformers import LlavaOnevisionConfig, Qwen2Config

    vision = tower_of(settings["mm_vision_tower"])
    return LlavaOnevisionConfig(
        text_config=Qwen2Config(**text_settings(settings)),
        vision_config=vision,
        image_grid_pinpoints=pinpoints_of(settings.get("image_grid_pinpoints"), vision.image_size),
        vision_aspect_ratio=aspect_ratio_of(settings),
        tie_word_embeddings=settings.get("tie_word_embeddings", False),
    )


def _method(settings: Mapping[str, Any], config: Any) -> VQToken:
    """Its maps are as large as a frame of the tower, which the original does not pool."""
    return VQToken(places=(config.vision_config.image_size // config.vision_config.patch_size) ** 2)


def _processor(config: Any, tokenizer: Any) -> Any:
    from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

    side = config.vision_config.image_size
    pixels = {"size": {"height": side, "width": side}, "image_mean": HALF, "image_std": HALF}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**pixels, image_grid_pinpoints=config.image_grid_pinpoints),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(**pixels),
        num_image_tokens=(side // config.vision_config.patch_size) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=config.vision_aspect_ratio,
        chat_template=TEMPLATE,
    )
