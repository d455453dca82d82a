"""The configuration of LLaVA-Video, and its translation from the published checkpoints' flat config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import Any

from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

from framefusion.core.errors import CheckpointError

ARCHITECTURE = "LlavaQwenForCausalLM"
TEXT_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
    *("rope_theta", "use_sliding_window", "sliding_window", "max_window_layers", "attention_dropout"),
    *("use_cache", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
)
PUBLISHED_TOWERS: Mapping[str, Mapping[str, int]] = {
    "google/siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    }
}
POOLS = ("bilinear", "average", "max")
NO_LIMIT = 10**6
# Published checkpoints have 6. A range makes a list of all its grids.
MOST_TILES = 64
OTHER_SHAPE = "for LLaVA-OneVision and LLaVA-NeXT take a checkpoint that was converted to transformers (llava-hf)"


class LlavaVideoConfig(LlavaOnevisionConfig):
    """LLaVA-OneVision's configuration and how the patches of a frame are pooled.

    mm_spatial_pool_mode: "bilinear", "average" or "max", always by two in each direction.
    """

    model_type = "llava_qwen"

    mm_spatial_pool_mode: str = "bilinear"

    @property
    def patches_per_side(self) -> int:
        return self.vision_config.image_size // self.vision_config.patch_size

    @property
    def pooled_side(self) -> int:
        """Rows, and patches in a row, of one frame in the prompt."""
        whole = self.patches_per_side
        return ceil(whole / 2) if self.mm_spatial_pool_mode == "bilinear" else whole // 2


def is_llava_video(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json is a published LLaVA-Video, or one that was saved from here."""
    return ARCHITECTURE in (settings.get("architectures") or ()) or settings.get("model_type") == "llava_qwen"


def translate(name: str, settings: Mapping[str, Any], trust_remote_code: bool = False) -> LlavaVideoConfig:
    """The configuration for a checkpoint's config.json. Raises CheckpointError for variants of another shape."""
    if "text_config" in settings:
        return LlavaVideoConfig.from_dict(dict(settings))
    _refuse_other_shapes(name, settings)
    vision = tower_of(settings["mm_vision_tower"], trust_remote_code)
    text = Qwen2Config(**{key: settings[key] for key in TEXT_KEYS if key in settings})
    return LlavaVideoConfig(
        text_config=text,
        vision_config=vision,
        mm_spatial_pool_mode=settings.get("mm_spatial_pool_mode", "bilinear"),
        image_grid_pinpoints=pinpoints_of(settings.get("image_grid_pinpoints"), vision.image_size),
        vision_aspect_ratio=aspect_ratio_of(settings),
        tie_word_embeddings=settings.get("tie_word_embeddings", False),
        dtype=settings.get("dtype") or settings.get("torch_dtype"),
    )


def _refuse_other_shapes(name: str, settings: Mapping[str, Any]) -> None:
    wanted: dict[str, tuple[Any, ...]] = {
        "mm_newline_position": ("grid",),
        "mm_spatial_pool_mode": (None, *POOLS),
        "mm_spatial_pool_stride": (None, 2),
        "mm_projector_type": ("mlp2x_gelu",),
        "mm_resampler_type": (None,),
        "add_faster_video": (None, False),
    }
    for key, values in wanted.items():
        if settings.get(key) not in values:
            raise CheckpointError(
                f"cannot load the model `{name}`",
                f"its configuration has {key} = {settings.get(key)!r}; LLaVA-Video has {values[-1]!r}",
                OTHER_SHAPE,
            )
    for key, word in (("mm_vision_tower", "siglip"), ("mm_patch_merge_type", "unpad")):
        value = settings.get(key)
        if not isinstance(value, str) or word not in value:
            raise CheckpointError(
                f"cannot load the model `{name}`",
                f"its configuration has {key} = {value!r}; LLaVA-Video has a SigLIP tower and `spatial_unpad`",
                OTHER_SHAPE,
            )


def tower_of(name: str, trust_remote_code: bool = False) -> SiglipVisionConfig:
    """The tower without its last layer and pooling head: the original takes the hidden states of the last but one."""
    if name in PUBLISHED_TOWERS:
        config = SiglipVisionConfig(**PUBLISHED_TOWERS[name])
    else:
        config = SiglipVisionConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    config.num_hidden_layers -= 1
    config.vision_use_head = False
    return config


def pinpoints_of(given: list[list[int]] | str | None, side: int) -> list[list[int]] | None:
    """(height, width) of the grids an image may be cut into; published as (width, height), or as a range of tiles."""
    if given is None:
        return None
    if isinstance(given, str):
        ends = [tuple(map(int, pair)) for pair in re.findall(r"\((\d+)x(\d+)\)", given)]
        if len(ends) < 2 or max(map(max, ends)) > MOST_TILES:
            raise CheckpointError(
                f"cannot read image_grid_pinpoints = {given!r}",
                f"it is no range such as (1x1),...,(6x6) of at most {MOST_TILES} tiles to a side",
                "the configuration is damaged; fetch the checkpoint again",
            )
        (first_width, first_height), (last_width, last_height) = ends[0], ends[-1]
        given = [
            [width * side, height * side]
            for width in range(first_width, last_width + 1)
            for height in range(first_height, last_height + 1)
        ]
    return [[height, width] for width, height in given]


def aspect_ratio_of(settings: Mapping[str, Any]) -> str:
    ratio = str(settings.get("image_aspect_ratio", "anyres_max_9"))
    return f"anyres_max_{NO_LIMIT}" if "anyres_max" not in ratio else ratio
