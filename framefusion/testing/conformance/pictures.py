"""Pixels for a tiny model: the shapes that vision towers take, tried in turn."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from framefusion.testing.conformance.shrink import PATCH, PIXELS
from framefusion.testing.conformance.sizes import QUERIES

PICTURES = 2
CELLS = 6
CHANNELS = 3
FRAMES = 4
Pixels = dict[str, torch.Tensor]


def pixels_of(model: Any) -> Iterator[tuple[Pixels, int]]:
    """Inputs that show `PICTURES` equal-sized pictures, and how many tokens each takes."""
    fixed = _OWN.get(model.config.model_type)
    if fixed is not None:
        yield fixed
        return
    features = getattr(model, "get_image_features", None)
    if features is None:
        return
    takes = inspect.signature(features).parameters
    for inputs in _candidates(model.config):
        if any(name not in takes for name in inputs):
            continue
        try:
            with torch.no_grad():
                found = _count(features(**inputs))
        except Exception:
            continue
        if found and found % PICTURES == 0:
            yield inputs, found // PICTURES


def _count(output: Any) -> int:
    """Rows of all features of all pictures."""
    if isinstance(output, torch.Tensor):
        return output.numel() // output.shape[-1]
    if isinstance(output, (tuple, list)):
        return sum(_count(part) for part in output if isinstance(part, torch.Tensor))
    return _count(output.pooler_output)


def _candidates(config: Any) -> Iterator[Pixels]:
    vision = getattr(config, "vision_config", config)
    side, patch = _number(vision, "image_size", PIXELS), _number(vision, "patch_size", PATCH)
    temporal = _number(vision, "temporal_patch_size", 1)
    draw = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=draw)

    grid = torch.tensor([[1, CELLS, CELLS]] * PICTURES)
    row = CHANNELS * patch * patch
    sizes = torch.tensor([[side, side]] * PICTURES)
    cells = PICTURES * CELLS * CELLS
    for width in dict.fromkeys((row * temporal, row)):
        yield {"pixel_values": noise(cells, width), "image_grid_thw": grid}
    yield {"pixel_values": noise(cells, CHANNELS, patch, patch), "image_grid_thw": grid}
    yield {"pixel_values": noise(cells, CHANNELS, patch, patch), "image_grid_hws": grid[:, 1:]}
    yield {"pixel_values": noise(PICTURES, CHANNELS, side, side)}
    yield {"pixel_values": noise(PICTURES, CHANNELS, side, side), "image_sizes": sizes}
    yield {"pixel_values": noise(PICTURES, 1, CHANNELS, side, side)}
    yield {"pixel_values": noise(PICTURES, 3, CHANNELS, side, side), "image_sizes": sizes}
    yield {"pixel_values": noise(PICTURES, 2, CHANNELS, side, side), "image_sizes": sizes}


def _own() -> dict[str, tuple[Pixels, int]]:
    """Families that take one fixed shape, or words beside the pictures, and a fixed number of tokens per picture."""
    pictures = torch.rand(PICTURES, CHANNELS, PIXELS, PIXELS, generator=torch.Generator().manual_seed(4))
    clips = torch.stack([pictures] * FRAMES, 1)
    words = {"qformer_input_ids": torch.full((PICTURES, 3), 20)}
    return {
        "blip-2": ({"pixel_values": pictures}, QUERIES),
        "instructblip": ({"pixel_values": pictures, **words}, QUERIES),
        "instructblipvideo": ({"pixel_values": clips, **words}, FRAMES * QUERIES),
        "kosmos-2": ({"pixel_values": pictures}, QUERIES),
    }


_OWN = _own()


def _number(config: Any, name: str, default: int) -> int:
    value = getattr(config, name, default)
    if isinstance(value, (list, tuple)):
        value = value[0]
    return value if isinstance(value, int) and value > 0 else default
