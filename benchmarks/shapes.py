"""Sizes of real models, and models of these sizes with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# Large matrices of random numbers cost minutes; a fixed seed makes them the same in every run.
SEED = 7


@dataclass(frozen=True)
class Text:
    """Sizes of a Qwen2.5 text model. width: D. depth: layers of the real model."""

    width: int
    inner: int
    depth: int
    heads: int
    kv_heads: int
    vocabulary: int = 151_936

    @property
    def head_width(self) -> int:
        return self.width // self.heads


TEXTS = {
    "embedded": Text(128, 320, 12, 4, 2, 105),
    "0.5B": Text(896, 4864, 24, 14, 2),
    "7B": Text(3584, 18_944, 28, 28, 4),
    "32B": Text(5120, 27_648, 64, 40, 8),
    "72B": Text(8192, 29_568, 80, 64, 8),
}

TOWER_BLOCKS = 32
"""Blocks of Qwen2-VL's vision tower, 1280 wide."""
PATCH, MERGE, FRAMES_PER_STEP = 14, 2, 2
"""Pixels of a patch, patches merged along a side, and frames merged into one time step."""


def text_config(text: Text, layers: int) -> dict[str, Any]:
    """The decoder's part of a configuration of Qwen2-VL or its kin."""
    half = text.head_width // 2
    return {
        "hidden_size": text.width,
        "intermediate_size": text.inner,
        "num_hidden_layers": layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "vocab_size": text.vocabulary,
        "max_position_embeddings": 1 << 20,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8],
        },
    }


def build(shape: str, layers: int, dtype: torch.dtype, device: torch.device, tower_blocks: int = 1) -> Any:
    """A stock Qwen2-VL with random weights: `layers` of `shape`, `tower_blocks` blocks of the real tower."""
    import transformers as hf

    text = TEXTS[shape]
    config = hf.Qwen2VLConfig(
        text_config=text_config(text, layers),
        vision_config={
            "depth": tower_blocks,
            "embed_dim": 1280,
            "hidden_size": text.width,
            "num_heads": 16,
            "mlp_ratio": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
        },
        tie_word_embeddings=True,
    )
    return with_random_weights(hf.Qwen2VLForConditionalGeneration, config, dtype, device)


def with_random_weights(model: Callable[[Any], Any], config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """`model` of `config`, made where it will be and in its own precision, since that saves minutes."""
    torch.manual_seed(SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return model(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
