"""Families whose pictures are runs of one fixed number of tokens, and whose videos are series of such pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.layout import Layout
from framefusion.models.family import Family
from framefusion.models.placeholders import placeholder_ids
from framefusion.models.rules import lay_runs

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_TILE = ("image_seq_length", "mm_tokens_per_image")


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """Each tile is a frame; neighbouring pictures of one size are frames of one clip."""
    per_tile = next((getattr(config, n) for n in TOKENS_PER_TILE if getattr(config, n, None)), None)

    def frames(count: int) -> int:
        return count // per_tile if per_tile and count % per_tile == 0 else 1

    return lay_runs(ids, placeholder_ids(config), frames, consecutive=True)


INTERNVL = Family("internvl", layout, similarity_lower_bound=0.5)
SMOLVLM = Family("smolvlm", layout)
LLAVA = Family("llava", layout, video_as_images=True)
GEMMA3 = Family("gemma3", layout, video_as_images=True)
