"""Random toy models and working processors of the stock transformers classes, for tests that need no weights.

`build_model(name)` and `prompt(name, rows)` fit each other: `model.generate(**prompt(name, [[("video", moving_clip()),
("text", "what?")]]))` runs in milliseconds. `FAMILIES` lists the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from transformers.video_utils import VideoMetadata

from tests.support import tiny_llava_video, tiny_qwen, tiny_tower
from tests.support.tiny_family import Family
from tests.support.tiny_words import BYTES

FAMILIES: dict[str, Family] = {
    family.name: family for family in (*tiny_qwen.FAMILIES, *tiny_tower.FAMILIES, *tiny_llava_video.FAMILIES)
}

# Two frames per time step at two positions a second: one time position per step in Qwen2.5-VL.
FRAMES_PER_SECOND = 4
BLOCK = 14
STD = 0.15

Segment = tuple[str, Any]


def build_model(
    name: str,
    seed: int = 0,
    layers: int = 4,
    attn: str = "sdpa",
    dtype: torch.dtype = torch.float32,
) -> hf.PreTrainedModel:
    """An eval-mode model whose weights depend on `seed` alone, and which never stops early."""
    family = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, _, name = family.model_class.rpartition(":")
        kind = getattr(import_module(module or "transformers"), name)
        model = kind._from_config(family.config(layers), attn_implementation=attn)
    redraw(model, seed)
    # Weights only: rotary frequencies stay float32, as when a checkpoint is loaded in half precision.
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    model.config.dtype = dtype
    text = model.config.get_text_config()
    model.generation_config.pad_token_id = text.pad_token_id
    model.generation_config.eos_token_id = None
    return model.eval()


@torch.no_grad()
def redraw(model: torch.nn.Module, seed: int) -> None:
    """Give every weight a size that counts: the stock initialisation leaves outputs nearly blind to inputs."""
    generator = torch.Generator().manual_seed(seed)
    for _, weight in sorted(model.named_parameters()):
        if weight.ndim > 1:
            weight.normal_(0.0, STD, generator=generator)
        else:
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    # Special tokens are never the greedy choice: answers are text, can be fed back, and never end early.
    model.get_output_embeddings().weight[BYTES:] = 0.0


@cache
def processor(name: str) -> hf.ProcessorMixin:
    """The family's processor, built once."""
    return FAMILIES[name].processor()


def save_checkpoint(name: str, folder: str | Path, **build: Any) -> None:
    """Write a folder that the Auto classes load offline; `build` goes to `build_model`."""
    build_model(name, **build).save_pretrained(folder)
    FAMILIES[name].processor().save_pretrained(folder)


def moving_clip(frames: int = 4, height: int = 56, width: int = 56, seed: int = 0, change: float = 0.2) -> np.ndarray:
    """A clip (frames, height, width, 3) in which each frame repeats the last but for a share `change` of its blocks."""
    draw = np.random.default_rng(seed)
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    blocks = _blocks(draw, rows * columns)
    changing = min(rows * columns, max(1, round(change * rows * columns))) if change > 0 else 0
    clip = []
    for index in range(frames):
        if index:
            blocks = blocks.copy()
            blocks[draw.permutation(rows * columns)[:changing]] = _blocks(draw, changing)
        picture = blocks.reshape(rows, columns, BLOCK, BLOCK, 3).swapaxes(1, 2)
        clip.append(picture.reshape(rows * BLOCK, columns * BLOCK, 3)[:height, :width])
    return np.stack(clip)


def _blocks(draw: np.random.Generator, count: int) -> np.ndarray:
    """Square patches of one colour each, with a little texture."""
    colours = draw.integers(0, 224, (count, 1, 1, 3))
    texture = draw.integers(0, 32, (count, BLOCK, BLOCK, 3))
    return (colours + texture).astype(np.uint8)


def prompt(name: str, rows: Sequence[Sequence[Segment]], padding_side: str = "left") -> dict[str, torch.Tensor]:
    """Model inputs for a batch, as the family's own processor returns them.

    A row is a sequence of ("text", str), ("video", uint8 array T x H x W x 3) and ("image", uint8 array H x W x 3).
    Videos are taken as already sampled. LLaVA-OneVision, LLaVA-NeXT-Video and InternVL stack the videos of a batch, so
    all of them must have as many frames; SmolVLM pads them, and its prompt then names the longest video's frame count
    in every row.
    """
    family = FAMILIES[name]
    kinds = {kind for row in rows for kind, _ in row}
    if not family.videos or (not family.mixes and {"image", "video"} <= kinds):
        rows = [_frames_as_images(row) for row in rows]
    visuals = {
        f"{kind}s": _gather(rows, kind, family.nested)
        for kind in ("image", "video")
        if any(found == kind for row in rows for found, _ in row)
    }
    if "videos" in visuals:
        visuals["video_metadata"] = [_metadata(clip) for row in rows for kind, clip in row if kind == "video"]
        visuals["do_sample_frames"] = False
    reader = processor(name)
    return dict(
        reader(
            text=[_render(reader, row) for row in rows],
            padding=True,
            padding_side=padding_side,
            return_tensors="pt",
            **visuals,
        )
    )


def _frames_as_images(row: Sequence[Segment]) -> list[Segment]:
    return [
        piece
        for kind, value in row
        for piece in ([("image", frame) for frame in value] if kind == "video" else [(kind, value)])
    ]


def _gather(rows: Sequence[Sequence[Segment]], kind: str, nested: bool) -> list[Any]:
    found = [[value for segment, value in row if segment == kind] for row in rows]
    return found if nested else [value for row in found for value in row]


def _metadata(clip: np.ndarray) -> VideoMetadata:
    frames, height, width = clip.shape[:3]
    return VideoMetadata(
        total_num_frames=frames,
        fps=FRAMES_PER_SECOND,
        width=width,
        height=height,
        duration=frames / FRAMES_PER_SECOND,
        frames_indices=list(range(frames)),
    )


def _render(reader: hf.ProcessorMixin, row: Sequence[Segment]) -> str:
    content = [{"type": kind, "text": value} if kind == "text" else {"type": kind} for kind, value in row]
    return reader.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
