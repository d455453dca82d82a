"""What a tiny family states: its configuration, its processor and the few facts `prompt` needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HIDDEN = 64
HEADS = 4
KV_HEADS = 2
PIXELS = 56
PATCH = 7


@dataclass(frozen=True)
class Family:
    """One stock architecture at toy size.

    `model_class` is a class of transformers, or "module:class". `config` takes the number of decoder layers. `videos`
    is False where the processor knows images only, `mixes` is False where images and videos cannot share a call;
    `prompt` then hands every frame over as an image. `nested` says that the processor wants one list of images (and of
    videos) per row rather than a flat one. `needs` is a package without which the processor refuses to be built.
    `sibling` is a family that differs in its MLPs alone; only the contract runs on both.
    """

    name: str
    model_class: str
    config: Callable[..., Any]
    processor: Callable[[], Any]
    videos: bool = True
    mixes: bool = True
    nested: bool = False
    needs: str | None = None
    sibling: str | None = None


def text_sizes(layers: int, **others: Any) -> dict[str, Any]:
    """The sizes of a toy decoder, common to all families."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096,
        "use_cache": True,
    } | others


def tower_sizes(layers: int = 2, **others: Any) -> dict[str, Any]:
    """The sizes of a toy vision tower with a fixed input size (SigLIP, CLIP, InternViT)."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "image_size": PIXELS,
        "patch_size": PATCH,
    } | others
