"""Every scene goes through the frozen tower once; what the projector reads of it is kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framefusion.core.destination import replacing
from framefusion.models.pixel_range import IMAGENET
from training.pretrained.scene import Grounds, Scene, render
from training.pretrained.stamps import Album

# Frames that go through the tower together, scenes between two notes of how far it is.
FRAMES_AT_ONCE, BETWEEN_NOTES = 64, 64

Watcher = Callable[[str, int, int], None]


@torch.inference_mode()
def features_of(model: Any, frames: np.ndarray) -> torch.Tensor:
    """What the projector of a LLaVA reads: (T, N, D) of frames (T, S, S, 3) uint8."""
    vision = model.model.vision_tower
    mean, spread = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    pixels = (torch.from_numpy(frames).float() / 255 - mean) / spread
    hidden = [
        vision(part.to(vision.dtype), output_hidden_states=True).hidden_states[model.config.vision_feature_layer]
        for part in pixels.permute(0, 3, 1, 2).split(FRAMES_AT_ONCE)
    ]
    return torch.cat(hidden)[:, 1:]


def compute_features(
    file: Path, model: Any, scenes: Sequence[Scene], album: Album, grounds: Grounds, watch: Watcher
) -> np.ndarray:
    """(scenes, T, N, D) float16, read from `file` as it is needed; goes on where a stopped run was."""
    note, vision = file.with_suffix(".json"), model.config.vision_config
    tokens = model.config.image_seq_length
    shape = (len(scenes), scenes[0].frames, tokens, vision.hidden_size)
    these = hashlib.sha256(repr((scenes, shape, model.config.vision_feature_layer)).encode()).hexdigest()
    found = json.loads(note.read_text()) if note.exists() else {}
    done = found["done"] if found.get("scenes") == these else 0
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = np.lib.format.open_memmap(file, "r+" if done else "w+", np.float16, shape)
    step = max(1, FRAMES_AT_ONCE // scenes[0].frames)
    for start in range(done, len(scenes), step):
        some = scenes[start : start + step]
        frames = np.concatenate([render(scene, album, grounds) for scene in some])
        features = features_of(model, frames).reshape(len(some), *shape[1:])
        kept[start : start + step] = features.to(torch.float16).numpy()
        reached = min(start + step, len(scenes))
        if reached == len(scenes) or reached % BETWEEN_NOTES < step:
            kept.flush()
            with replacing(note) as out:
                out.write(json.dumps({"scenes": these, "done": reached}).encode())
        watch(f"features of {file.stem}", reached, len(scenes))
    return np.load(file, mmap_mode="r")


def moments(kept: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread (D,) of each channel, from some of the features."""
    some = torch.from_numpy(np.array(kept[:: max(1, len(kept) // 64)], np.float32)).flatten(0, 2)
    return some.mean(0), some.std(0).clamp(min=1e-4)
