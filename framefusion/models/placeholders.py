"""Which token ids of a prompt stand for pictures."""

from __future__ import annotations

from typing import Any

VIDEO_NAMES = ("video_token_id", "video_token_index")
IMAGE_NAMES = ("image_token_id", "image_token_index")


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    """Most families name their placeholders beside the parts of the model, some (Phi-4) in the part they belong to."""
    parts = (config, getattr(config, "vision_config", None))
    found = (getattr(part, name, None) for part in parts for name in names)
    return next((token for token in found if token is not None), None)


def image_token(config: Any) -> int | None:
    return _first(config, IMAGE_NAMES)


def video_token(config: Any) -> int | None:
    return _first(config, VIDEO_NAMES)


def placeholder_ids(config: Any) -> list[int]:
    """Ids of all visual placeholders the configuration names."""
    found = (image_token(config), video_token(config))
    return list(dict.fromkeys(token for token in found if token is not None))
