"""Families whose checkpoints bring code of their own: those of the FrameFusion paper, with its thresholds, and PVC.

Names are the `model_type` in those checkpoints' configurations; NVILA has two, by who packed the checkpoint. They hand
embeddings to their language model, whose visual columns are found by what the embedding call saw
(`engine/inputs/embeddings.py`), not by any name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, lay_marks

if TYPE_CHECKING:
    from torch import Tensor


def internvl_chat(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """An image's tiles follow one another without a mark between them; their size is in the configuration."""
    vision = config.vision_config
    side = (config.force_image_size or vision.image_size) // vision.patch_size
    per_tile = int(side**2 * config.downsample_ratio**2)
    return lay_marks(ids, lambda count: count // per_tile if count % per_tile == 0 else 1)


MINICPM_V = Family("minicpmv", by_runs, similarity_lower_bound=0.7, video_as_images=True, tested=False)
NVILA = Family("llava_llama", by_runs, similarity_lower_bound=0.7, tested=False)
VILA = Family("vila", by_runs, similarity_lower_bound=0.7, tested=False)
INTERNVL_CHAT = Family("internvl_chat", internvl_chat, similarity_lower_bound=0.5, video_as_images=True, tested=False)
PVC_INTERNVL = Family("pvc_internvl", internvl_chat, video_as_images=True, tested=False)
