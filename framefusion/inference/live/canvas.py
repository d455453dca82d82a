"""All frames of a source in the size of the first one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from framefusion.inference.video.limits import Bounds
from framefusion.inference.video.upright import orientation, set_upright, stretched

from .items import Frame, Item, Notice, Shown

SAME_RATIO = 1.02
"""Ratio of two aspect ratios up to which one is stretched to the other instead of getting a border."""


class Canvas:
    """bounds: of the first frame, which is shrunk to them. size: (width, height) of all, None before the first."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.size: tuple[int, int] | None = None
        self._seen: tuple[int, int] | None = None

    def draw(self, items: Iterable[Item]) -> Iterator[Frame | Notice]:
        for item in items:
            if isinstance(item, Notice):
                yield item
                continue
            size = _size(item)
            if self.size is None:
                self.bounds.check_kept("the source", 1, *size)
                self.size = self.bounds.fit(*size)
            elif size != self._seen:
                width, height = self.size
                text = f"frames are {size[0]} × {size[1]} from here on, shown within {width} × {height}"
                yield Notice("resized", text)
            self._seen = size
            yield Frame(self._shown(item.picture, size), item.seconds)

    def _shown(self, picture: Any, size: tuple[int, int]) -> np.ndarray:
        """The whole picture, as large as it can be, on black where its shape is another one."""
        assert self.size is not None
        width, height = self.size
        ratio = (size[0] * height) / (size[1] * width)
        if 1 / SAME_RATIO <= ratio <= SAME_RATIO:
            return _scaled(picture, width, height)
        within = (width, max(1, round(height / ratio))) if ratio > 1 else (max(1, round(width * ratio)), height)
        found = np.zeros((height, width, 3), np.uint8)
        top, left = (height - within[1]) // 2, (width - within[0]) // 2
        found[top : top + within[1], left : left + within[0]] = _scaled(picture, *within)
        return found


def _size(shown: Shown) -> tuple[int, int]:
    """(width, height) in square pixels, upright."""
    picture = shown.picture
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    width, height = stretched(picture.width, picture.height, shown.pixel)
    return (height, width) if orientation(picture).transposed else (width, height)


def _scaled(picture: Any, width: int, height: int) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        if picture.shape[:2] == (height, width):
            return picture
        from PIL import Image

        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    turned = orientation(picture)
    if turned.transposed:
        width, height = height, width
    smaller = width * height < picture.width * picture.height
    scaled = picture.reformat(width, height, "rgb24", interpolation="AREA" if smaller else "BILINEAR")
    return np.ascontiguousarray(set_upright(scaled.to_ndarray(), turned))
