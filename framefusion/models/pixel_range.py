"""How the processors of published checkpoints normalise pixels, to undo it, by family.

A family that is named here encodes every picture apart from the others, in one list of blocks, and the tests say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from framefusion.core.errors import UnsupportedPointError

Triple = tuple[float, ...]


@dataclass(frozen=True)
class PixelRange:
    """What was done to [0, 1] pixels, by channel: mean subtracted, divided by std."""

    mean: Triple
    std: Triple


CLIP = PixelRange((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = PixelRange((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = PixelRange((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

PUBLISHED = {
    "qwen2_vl": CLIP,
    "qwen2_5_vl": CLIP,
    "qwen3_vl": HALF,
    "qwen3_vl_moe": HALF,
    "qwen3_5": HALF,
    "qwen3_5_moe": HALF,
    "glm4v": CLIP,
    "glm4v_moe": CLIP,
    "internvl": IMAGENET,
    "llava": CLIP,
    "llava_next_video": CLIP,
    "llava_onevision": HALF,
    "llava_qwen": HALF,
    "smolvlm": HALF,
    "gemma3": HALF,
    "video_llama_3": HALF,
}


def pixel_range(model_type: str, processor: Any, video: bool) -> PixelRange:
    """What the processor does to pixels, as it says, else as the published checkpoints of the family have it.

    processor: of the model, or None. video: whether the pixels are a video's. Raises UnsupportedPointError for a family
    that is not named here.
    """
    if model_type not in PUBLISHED:
        raise UnsupportedPointError(
            f"units cannot be left out by their pixels in a model of type `{model_type}`",
            "it is not known that its vision tower encodes every picture apart from the others",
            f"choose a method that acts behind the tower, or one of: {', '.join(PUBLISHED)}",
        )
    kinds = ("video_processor", "image_processor") if video else ("image_processor", "video_processor")
    for part in (*(getattr(processor, kind, None) for kind in kinds), processor):
        mean, std = getattr(part, "image_mean", None), getattr(part, "image_std", None)
        if part is not None and getattr(part, "do_normalize", True) is False:
            return PixelRange((0.0,), (1.0,))
        if isinstance(mean, Sequence) and isinstance(std, Sequence):
            return PixelRange(tuple(map(float, mean)), tuple(map(float, std)))
    return PUBLISHED[model_type]
