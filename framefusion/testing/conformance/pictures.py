"""Pixels for a tiny model: the shapes that vision towers take, tried in turn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
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
    features = _features_of(model)
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
        if found >= 2 * PICTURES and found % PICTURES == 0:
            yield inputs, found // PICTURES


def _features_of(model: Any) -> Callable[..., Any] | None:
    """The model's own `get_image_features`, or that of the model inside it, which often names more of its inputs."""
    found = (getattr(part, "get_image_features", None) for part in (getattr(model, "model", None), model))
    return next((features for features in found if features is not None), None)


def _count(output: Any) -> int:
    """Rows of all features of all pictures."""
    if isinstance(output, torch.Tensor):
        return output.numel() // output.shape[-1]
    if isinstance(output, (tuple, list)):
        return sum(_count(part) for part in output if isinstance(part, torch.Tensor))
    return 0 if output is None else _count(output.pooler_output)


def _candidates(config: Any) -> Iterator[Pixels]:
    vision = getattr(config, "vision_config", config)
    side, patch = _number(vision, "image_size", PIXELS), _number(vision, "patch_size", PATCH)
    temporal = _number(vision, "temporal_patch_size", _number(vision, "patch_temporal", 1))
    draw = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=draw)

    grid = torch.tensor([[1, CELLS, CELLS]] * PICTURES)
    row = CHANNELS * patch * patch
    sizes = torch.tensor([[side, side]] * PICTURES)
    cells = PICTURES * CELLS * CELLS
    for width in dict.fromkeys((row * temporal, row)):
        yield {"pixel_values": noise(cells, width), "image_grid_thw": grid}
        yield {
            "pixel_values": noise(cells, width),
            "image_grid_thw": grid,
            "image_merge_sizes": torch.ones(PICTURES, dtype=torch.long),
        }
        yield {"pixel_values": noise(cells, width), "image_grid_hw": grid[:, 1:]}
    yield {"pixel_values": noise(cells, CHANNELS, patch, patch), "image_grid_thw": grid}
    yield {"pixel_values": noise(cells, CHANNELS, patch, patch), "image_grid_hws": grid[:, 1:]}
    yield {
        "pixel_values": noise(PICTURES, CELLS * CELLS, row),
        "spatial_shapes": grid[:, 1:],
        "pixel_attention_mask": torch.ones(PICTURES, CELLS * CELLS, dtype=torch.long),
    }
    places = torch.cartesian_prod(torch.arange(CELLS), torch.arange(CELLS)).flip(-1)
    yield {"pixel_values": noise(PICTURES, CELLS * CELLS, row), "image_position_ids": torch.stack([places] * PICTURES)}
    yield {
        "pixel_values": noise(1, PICTURES, CHANNELS, side, side),
        "pixel_attention_mask": torch.ones(1, PICTURES, dtype=torch.bool),
    }
    yield {"pixel_values": noise(PICTURES, CHANNELS, side, side)}
    yield {"pixel_values": noise(PICTURES, CHANNELS, side, side), "image_sizes": sizes}
    yield {"pixel_values": noise(PICTURES, 1, CHANNELS, side, side)}
    yield {"pixel_values": noise(PICTURES, 3, CHANNELS, side, side), "image_sizes": sizes}
    yield {"pixel_values": noise(PICTURES, 2, CHANNELS, side, side), "image_sizes": sizes}


def _own() -> dict[str, tuple[Pixels, int]]:
    """Families that take one fixed shape, or words beside the pictures, and a fixed number of tokens per picture."""
    pictures = torch.rand(PICTURES, CHANNELS, PIXELS, PIXELS, generator=torch.Generator().manual_seed(4))
    large = pictures.repeat(1, 1, 3, 3) * torch.linspace(0.5, 1.0, 3 * PIXELS)
    clips = torch.stack([pictures] * FRAMES, 1)
    words = {"qformer_input_ids": torch.full((PICTURES, 3), 20)}
    return {
        "blip-2": ({"pixel_values": pictures}, QUERIES),
        "instructblip": ({"pixel_values": pictures, **words}, QUERIES),
        "instructblipvideo": ({"pixel_values": clips, **words}, FRAMES * QUERIES),
        "kosmos-2": ({"pixel_values": pictures}, QUERIES),
        "fast_vlm": ({"pixel_values": large}, 9),
        "gemma3n": ({"pixel_values": large}, 9),
    }


_OWN = _own()


def _number(config: Any, name: str, default: int) -> int:
    value = getattr(config, name, default)
    if isinstance(value, (list, tuple)):
        value = value[0]
    return value if isinstance(value, int) and value > 0 else default
