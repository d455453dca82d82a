"""A clip through a vision tower frame by frame, with keys and values of places that did not change kept by hand."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.naive_tower import window_order

MERGED = 4
WINDOWED = ("qwen2_5_vl",)
CLASS_TOKEN = ("llava", "internvl", "llava_next_video")
LAYER = {"llava": -2, "llava_next_video": -2}


def tower_of(model: Any) -> Any:
    names = ("visual", "vision_tower", "vision_model")
    return next(getattr(model.model, name) for name in names if hasattr(model.model, name))


def features_in(family: str, output: Any) -> Tensor:
    """What the model reads of its tower's output: (U, C), or (T, P, C) where pictures come as a batch."""
    if family.startswith("qwen"):
        return output.pooler_output
    states = output.hidden_states[LAYER[family]] if family in LAYER else output.last_hidden_state
    return states[:, 1:] if family in CLASS_TOKEN else states


def features_by_hand(model: Any, family: str, pixels: Tensor, grid: Any, encoded: Tensor, reuse: bool = True) -> Tensor:
    """What the tower gives for every unit: (T, U, C), or (T, P, C) of the patches without what stands before them.

    pixels: of one clip, as the tower takes them. grid: its (1, 3) sizes where the tower takes rows of patches. encoded:
    (T, U) bool. Every frame runs alone and whole; in each attention call the places that are not encoded are given the
    keys and values they had when they were, or are masked.
    """
    tower, kept, frames = tower_of(model), {}, []
    now: dict[str, Any] = {"calls": {}}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        for name in {type(module).__module__ for module in tower.modules()}:
            stock = getattr(sys.modules[name], "eager_attention_forward", None)
            if stock is not None:
                patch.setattr(sys.modules[name], "eager_attention_forward", _stale(stock, kept, now, reuse))
        for frame in range(encoded.shape[0]):
            now["calls"], now["mask"] = {}, rows_of(family, encoded[frame], grid, pixels)
            found = _features(tower, family, pixels, grid, frame)
            own = encoded[frame] if len(found) == encoded.shape[1] else patches_of(encoded[frame], len(found))
            frames.append(found if not frames else torch.where(own[:, None], found, frames[-1]))
    return torch.stack(frames)


def blended_by_hand(features: Tensor, encoded: Tensor, weight: Tensor) -> Tensor:
    """Features (T, U or P, C) between those of the last encoding and of the next one. weight: (T, U) of the next."""
    found = features.clone()
    for frame in range(len(features)):
        size = features.shape[1]
        shares = weight[frame] if size == weight.shape[1] else patches_of(weight[frame], size)
        for later in range(frame + 1, len(features)):
            own = (
                encoded[frame : later + 1]
                if size == weight.shape[1]
                else encoded_patches(encoded[frame : later + 1], size)
            )
            first = own[-1] & ~own[:-1].any(0)
            mixed = features[frame] * (1 - shares[:, None]) + features[later] * shares[:, None]
            found[frame] = torch.where(first[:, None], mixed, found[frame])
    return found


def encoded_patches(encoded: Tensor, patches: int) -> Tensor:
    return torch.stack([patches_of(units, patches) for units in encoded])


def _features(tower: Any, family: str, pixels: Tensor, grid: Any, frame: int) -> Tensor:
    if grid is None:
        return features_in(family, tower(pixels[frame : frame + 1], output_hidden_states=True))[0]
    count = int(grid[0, 1] * grid[0, 2])
    rows, one = pixels[frame * count : (frame + 1) * count], grid.clone()
    one[0, 0] = 1
    if family == "video_llama_3":
        return features_in(family, tower(rows, grid_thw=one, merge_sizes=torch.tensor([2])))
    return features_in(family, tower(rows, grid_thw=one))


def patches_of(units: Tensor, patches: int) -> Tensor:
    """(U,) of square units in reading order -> (P,) of their patches."""
    side, small = round(patches**0.5), round(units.numel() ** 0.5)
    each = side // small
    return torch.stack([units[(row // each) * small + column // each] for row in range(side) for column in range(side)])


def rows_of(family: str, units: Tensor, grid: Any, pixels: Tensor) -> Tensor:
    """(rows,) which rows of one frame are encoded, as its blocks work on them; a class token stands first."""
    if grid is not None:
        order = list(range(units.numel()))
        if family in WINDOWED:
            order = window_order(int(grid[0, 1]) // 2, int(grid[0, 2]) // 2)
        return units[order].repeat_interleave(MERGED)
    patches = patches_of(units, (pixels.shape[-1] // 7) ** 2)
    return torch.cat([units.any()[None], patches]) if family in CLASS_TOKEN else patches


def _stale(stock: Any, kept: dict, now: dict[str, Any], reuse: bool) -> Any:
    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any) -> Any:
        number, first = now["calls"].get(id(module), (0, 0))
        length = key.shape[2]
        own = now["mask"][first : first + length]
        now["calls"][id(module)] = (number + 1, first + length)
        place = (id(module), number)
        if reuse:
            old = kept.get(place, (key, value))
            key, value = (
                torch.where(own[:, None], fresh, stale) for fresh, stale in zip((key, value), old, strict=True)
            )
            kept[place] = (key, value)
        else:
            attention_mask = torch.zeros(1, 1, 1, length).masked_fill(~own, -1e9)
        return stock(module, query, key, value, attention_mask, **options)

    return eager
