"""Tiny checkpoints with random weights, as a serving engine reads them: the toy families, a little wider.

The engine's attention on the CPU has heads of at least 32 channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from tests.support.tiny_family import Family
from tests.support.tiny_qwen import FAMILIES as QWEN
from tests.support.tiny_tower import FAMILIES as TOWERS

FAMILIES = {family.name: family for family in (*QWEN, *TOWERS)}
SERVED = ("qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl")
HIDDEN, HEAD_DIM, TOWER = 128, 32, 64
SECTIONS = {"qwen2_5_vl": [4, 6, 6], "qwen3_vl": [6, 5, 5]}
# Small enough to stay finite, large enough that what a model says depends on what it sees.
STD = 0.08
SEED = 7


def save_checkpoint(name: str, folder: Path, layers: int = 2, dtype: torch.dtype = torch.float32) -> Path:
    """Write the family's checkpoint with tokenizer and processor into `folder`; returns it."""
    family = FAMILIES[name]
    torch.manual_seed(SEED)
    model = getattr(hf, family.model_class)(_config(family, layers)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=STD)
    model.to(dtype).save_pretrained(folder)
    if name == "llava_onevision":
        _name_tower_as_published(folder / "model.safetensors")
    processor = family.processor()
    # vLLM normalises videos with the values of pictures; published checkpoints have the same for both.
    for value in ("image_mean", "image_std"):
        setattr(processor.image_processor, value, getattr(processor.video_processor, value))
    processor.save_pretrained(folder)
    return folder


def _name_tower_as_published(path: Path) -> None:
    """Published checkpoints, and so vLLM, have a level in the tower's names that this release of transformers lost."""
    old, new = "vision_tower.", "vision_tower.vision_model."
    weights = load_file(path)
    renamed = {name if new in name else name.replace(old, new): tensor for name, tensor in weights.items()}
    save_file(renamed, path, metadata={"format": "pt"})


def _config(family: Family, layers: int) -> Any:
    config: Any = family.config(layers)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size = HIDDEN, 2 * HIDDEN
    text.head_dim = HEAD_DIM
    if family.name in SECTIONS:
        text.rope_parameters = {**text.rope_parameters, "mrope_section": SECTIONS[family.name]}
        vision.out_hidden_size = HIDDEN
    vision.hidden_size, vision.intermediate_size = TOWER, 2 * TOWER
    return config
