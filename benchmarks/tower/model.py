"""Qwen2.5-VL at its real widths with few blocks and layers, and prompts that show it a clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.shapes import FRAMES_PER_STEP, MERGE, PATCH, TEXTS, text_config, with_random_weights
from benchmarks.tower.clips import normalised
from framefusion.models.pixel_range import PUBLISHED

FAMILY = "qwen2_5_vl"
WINDOW, INNER, HEADS, WIDTH = 112, 3420, 16, 1280
WINDOWED = 7
"""Of eight blocks of the real tower, how many attend within windows; the last of eight attends to the whole frame."""
VIDEO, BEGIN, END, WORD = 151_656, 151_652, 151_653, 11
CPU = torch.device("cpu")
HEAD, TAIL = 14, 26
"""Words before and after the clip."""


def build(shape: str, layers: int, blocks: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Any:
    """A stock Qwen2.5-VL with random weights: `layers` of `shape`, `blocks` of the tower's 32."""
    import transformers as hf

    text = TEXTS[shape]
    config = hf.Qwen2_5_VLConfig(
        text_config=text_config(text, layers),
        vision_config={
            "depth": blocks,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_heads": HEADS,
            "out_hidden_size": text.width,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES_PER_STEP,
            "window_size": WINDOW,
            "fullatt_block_indexes": list(range(WINDOWED, blocks, WINDOWED + 1)),
        },
        video_token_id=VIDEO,
        vision_start_token_id=BEGIN,
        vision_end_token_id=END,
        tie_word_embeddings=True,
    )
    return with_random_weights(hf.Qwen2_5_VLForConditionalGeneration, config, dtype, device)


def inputs(pixels: Tensor) -> dict[str, Tensor]:
    """What the model is given for a clip (T, 3, side, side) on [0, 1], as its processor would make it."""
    known = PUBLISHED[FAMILY]
    frames, side = pixels.shape[0], pixels.shape[-1]
    grid = (frames // FRAMES_PER_STEP, side // PATCH, side // PATCH)
    steps, rows, columns = grid
    video = normalised(pixels, known.mean, known.std)
    video = video.view(steps, FRAMES_PER_STEP, 3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
    patches = video.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(steps * rows * columns, -1)
    shown = torch.full((1, steps * rows * columns // MERGE**2), VIDEO)
    words = [torch.full((1, count), WORD) for count in (HEAD, TAIL)]
    ids = torch.cat([words[0], torch.tensor([[BEGIN]]), shown, torch.tensor([[END]]), words[1]], 1)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": 2 * (ids == VIDEO).int(),
        "pixel_values_videos": patches,
        "video_grid_thw": torch.tensor([grid]),
    }
