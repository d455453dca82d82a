"""Clips of frames larger than a processor wants them, and what is held while they are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from framefusion.inference.video.decode import Album

SIDES = (240, 320)


@cache
def film(frames: int) -> np.ndarray:
    """Noise over a moving ramp, so that every filter shows."""
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 200, SIDES[1])[None, None, :, None] + np.arange(frames)[:, None, None, None]
    return (ramp + draw.integers(0, 50, (frames, *SIDES, 3))).clip(0, 255).astype(np.uint8)


def sizes_kept(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """(height, width) of all frames that are kept while they are decoded, from now on."""
    found: set[tuple[int, int]] = set()
    stock = Album.put

    def put(album: Album, slot: int, frame: Any) -> None:
        stock(album, slot, frame)
        assert album.frames is not None
        found.add(album.frames.shape[1:3])

    monkeypatch.setattr(Album, "put", put)
    return found


def assert_read_alike(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Two prompts that differ by a grey level at most."""
    assert torch.equal(found["input_ids"], expected["input_ids"])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape
        # One grey level, over the smallest of the standard deviations that processors divide by.
        assert (found[key].float() - value.float()).abs().max() <= (1 / 255 / 0.224) * 1.01
