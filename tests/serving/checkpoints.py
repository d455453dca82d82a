"""Tiny checkpoints with random weights, as a serving engine reads them: the toy families, a little wider.

The engine's attention on the CPU has heads of at least 32 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from tests.serving.tiny import FAMILIES as OTHERS
from tests.support.tiny_family import PIXELS, Family
from tests.support.tiny_qwen import FAMILIES as QWEN
from tests.support.tiny_tower import FAMILIES as TOWERS

FAMILIES = {family.name: family for family in (*QWEN, *TOWERS, *OTHERS)}
SERVED = ("qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl")
"""Every test runs on these."""
WITH_VIDEOS = ("qwen2_vl", "qwen3_5", "glm4v", "minicpmv4_6", "llava_next_video")
WITH_PICTURES = ("llava", "llava_next", "gemma3", "idefics3")
"""On these, those of `test_families.py`."""
HEAD_DIM, LINEAR_DIM = 32, 128
SECTIONS = {"qwen2_vl": [4, 6, 6], "qwen2_5_vl": [4, 6, 6], "qwen3_vl": [6, 5, 5], "qwen3_5": [4, 2, 2]}
# The engine's linear attention on the CPU knows no other precision.
BFLOAT16 = ("qwen3_5", "minicpmv4_6")
ONE_SIZE = ("llava_onevision", "internvl", "llava_next_video", "gemma3")
TOWERS_BELOW = ("llava_onevision", "llava_next_video", "llava", "llava_next", "gemma3")
# Small enough to stay finite, large enough that what a model says depends on what it sees.
STD = 0.08
SEED = 7


@dataclass(frozen=True)
class Sizes:
    """layers, hidden, inner, heads: of the language model; inner: channels inside an MLP. blocks, tower, tower_inner,
    tower_heads: the same of the vision tower; 0 blocks are as many as the toy family has. pixels: side of a frame, in
    the families whose tower takes one size."""

    layers: int = 2
    hidden: int = 128
    inner: int = 256
    heads: int = 4
    blocks: int = 0
    tower: int = 64
    tower_inner: int = 128
    tower_heads: int = 2
    pixels: int = PIXELS


TINY = Sizes()


def dtype_of(name: str) -> str:
    return "bfloat16" if name in BFLOAT16 else "float32"


def save_checkpoint(name: str, folder: Path, sizes: Sizes = TINY) -> Path:
    """Write the family's checkpoint with tokenizer and processor into `folder`; returns it."""
    family = FAMILIES[name]
    torch.manual_seed(SEED)
    model = getattr(hf, family.model_class)(_config(family, sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=STD)
    model.to(getattr(torch, dtype_of(name))).save_pretrained(folder)
    if name in TOWERS_BELOW:
        _name_tower_as_published(folder / "model.safetensors")
    processor = family.processor()
    # vLLM normalises videos with the values of pictures; published checkpoints have the same for both.
    for value in ("image_mean", "image_std") if hasattr(processor, "video_processor") else ():
        setattr(processor.image_processor, value, getattr(processor.video_processor, value))
    if sizes.pixels != PIXELS and name in ONE_SIZE:
        _enlarge_frames(processor, sizes.pixels)
    processor.save_pretrained(folder)
    return folder


def _enlarge_frames(processor: Any, pixels: int) -> None:
    """Of a processor with one size, and with it the tiles that pictures are cut into."""
    parts = processor.image_processor, getattr(processor, "video_processor", None)
    for part in filter(None, parts):
        for size in filter(None, (part.size, part.crop_size)):
            for edge, value in dict(size).items():
                if value == PIXELS:
                    size[edge] = pixels
    for holder in (processor, processor.image_processor):
        _enlarge_counts(holder, pixels)


def _enlarge_counts(holder: Any, pixels: int) -> None:
    """Tokens of a picture, and sizes of those cut into tiles, where a configuration or processor states them."""
    for tokens in ("image_seq_length", "video_seq_length", "num_image_tokens", "mm_tokens_per_image"):
        if getattr(holder, tokens, None):
            setattr(holder, tokens, getattr(holder, tokens) * (pixels // PIXELS) ** 2)
    if hasattr(holder, "image_grid_pinpoints"):
        tiled = holder.image_grid_pinpoints
        holder.image_grid_pinpoints = [[side * pixels // PIXELS for side in size] for size in tiled]


def _name_tower_as_published(path: Path) -> None:
    """Published checkpoints, and so vLLM, have a level in the tower's names that this release of transformers lost."""
    old, new = "vision_tower.", "vision_tower.vision_model."
    weights = load_file(path)
    renamed = {name if new in name else name.replace(old, new): tensor for name, tensor in weights.items()}
    save_file(renamed, path, metadata={"format": "pt"})


def _config(family: Family, sizes: Sizes) -> Any:
    config: Any = family.config(sizes.layers)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size = sizes.hidden, sizes.inner
    text.num_attention_heads, text.head_dim = sizes.heads, HEAD_DIM
    if family.name in SECTIONS:
        text.rope_parameters = {**text.rope_parameters, "mrope_section": SECTIONS[family.name]}
    vision.hidden_size, vision.intermediate_size = sizes.tower, sizes.tower_inner
    for heads in ("num_heads", "num_attention_heads"):
        if hasattr(vision, heads):
            setattr(vision, heads, sizes.tower_heads)
    for blocks in ("depth", "num_hidden_layers"):
        if sizes.blocks and hasattr(vision, blocks):
            setattr(vision, blocks, sizes.blocks)
    if family.name in ONE_SIZE:
        both = isinstance(vision.image_size, (list, tuple))
        vision.image_size = [sizes.pixels, sizes.pixels] if both else sizes.pixels
        _enlarge_counts(config, sizes.pixels)
    if hasattr(vision, "embed_dim"):
        vision.hidden_size, vision.embed_dim = sizes.hidden, sizes.tower
    if hasattr(vision, "out_hidden_size"):
        vision.out_hidden_size = sizes.hidden
    if hasattr(text, "linear_key_head_dim"):
        text.linear_key_head_dim = text.linear_value_head_dim = LINEAR_DIM
    return config
