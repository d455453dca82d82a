"""A checkpoint's config.json, as far as it is read before transformers builds a model from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from framefusion.core.lines import LARGEST
from framefusion.inference.answer.foreign import reading, refused
from framefusion.models.placeholders import image_token, video_token

# Far more than any model has; building as many takes for ever.
MOST_LAYERS = 10_000
DEPTHS = ("depth", "num_layers")
# What a model cannot have none of. 0 means "as usual" in others.
POSITIVE = (
    *("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_layers", "depth", "in_channels"),
    *("num_attention_heads", "num_key_value_heads", "num_heads", "num_channels", "embed_dim", "image_size"),
    *("patch_size", "spatial_merge_size", "temporal_patch_size", "max_position_embeddings", "rope_theta"),
)
GENERATION = "generation_config.json"
CODE = "auto_map"
AGAIN = "fetch it again, or take it from its author"


def read_settings(name: str) -> dict[str, Any]:
    """config.json of the checkpoint at a path or with a hub id. Raises CheckpointError where it describes no model."""
    from transformers import PreTrainedConfig

    with reading(name, "config.json"):
        settings, _ = PreTrainedConfig.get_config_dict(name)
    if not isinstance(settings, Mapping):
        raise refused(name, f"config.json holds a {type(settings).__name__}, not an object", AGAIN)
    kinds = {"model_type": str, "architectures": list, CODE: Mapping, "transformers_weights": str}
    for key, kind in kinds.items():
        value = settings.get(key)
        if value is not None and not isinstance(value, kind):
            raise refused(name, f"config.json: {key} is {value!r}", AGAIN)
    for key, number in _numbers(settings):
        if ("layers" in key or key in DEPTHS) and number > MOST_LAYERS:
            raise refused(name, f"config.json: {key} is {number}", f"no model has as many; {AGAIN}")
        if key in POSITIVE and number <= 0:
            raise refused(name, f"config.json: {key} is {number}", f"it must be positive; {AGAIN}")
    _check_architecture(name, settings)
    _check_generation(name)
    return dict(settings)


def _check_architecture(name: str, settings: Mapping[str, Any]) -> None:
    """A class that nobody has: the model type alone would say how to build the model, and may say so wrongly."""
    import transformers

    from framefusion.inference.llava_video.configuration import is_llava_video

    named = settings.get("architectures") or []
    known = any(isinstance(each, str) and hasattr(transformers, each) for each in named)
    # A type without a class of transformers has a refusal of its own.
    stock = settings.get("model_type") in transformers.CONFIG_MAPPING
    if named and stock and not known and not settings.get(CODE) and not is_llava_video(settings):
        raise refused(
            name,
            f"config.json names the architecture {', '.join(map(str, named))}, which transformers does not have",
            f"if it is a stock {settings['model_type']}, write the name of that model's class",
        )


def _check_generation(name: str) -> None:
    """transformers would pass over one that cannot be read, and with it over what ends an answer."""
    from transformers.utils import cached_file

    with reading(name, GENERATION):
        path = cached_file(name, GENERATION, _raise_exceptions_for_missing_entries=False)
        found = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(found, Mapping):
        raise refused(name, f"{GENERATION} holds a {type(found).__name__}, not an object", AGAIN)


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield str(key), value


def check_placeholders(name: str, config: Any) -> None:
    """Raises CheckpointError where the configuration marks pictures by what is no token's id."""
    for token in (image_token(config), video_token(config)):
        if token is not None and not (type(token) is int and 0 <= token < LARGEST):
            why = f"config.json: {token!r} as the id of a placeholder"
            raise refused(name, why, f"it must be the id of the processor's placeholder; {AGAIN}")


def forget_code_of_parts(config: Any) -> bool:
    """Take out what parts of a configuration say of code of their own; returns whether any did.

    Models of transformers build their towers from these parts without saying whether such code may run, and where they
    have no class for a part, the terminal would be asked (transformers 5.17 to 5.24).
    """
    from transformers import PreTrainedConfig

    parts = [part for part in vars(config).values() if isinstance(part, PreTrainedConfig)]
    found = [vars(part).pop(CODE, None) is not None for part in parts]
    return any([*found, *map(forget_code_of_parts, parts)])
