"""Which units are encoded, written out with loops: compared with the last encoded one at the same place."""

from __future__ import annotations

from typing import Any

import torch

SIDE = 7


def encoded_units(clip: list, threshold: float, refresh: int | None = None) -> list[list[bool]]:
    """clip: [frame][unit][value] on [0, 1] -> [frame][unit]."""
    last: list[Any] = []
    age: list[int] = []
    decided = []
    for number, frame in enumerate(clip):
        row = []
        for unit, values in enumerate(frame):
            if number == 0:
                last.append(values)
                age.append(0)
                row.append(True)
                continue
            change = sum(abs(now - then) for now, then in zip(values, last[unit], strict=True)) / len(values)
            age[unit] += 1
            due = change > threshold or (refresh is not None and age[unit] >= refresh and change > 0)
            if due:
                last[unit], age[unit] = values, 0
            row.append(due)
        decided.append(row)
    return decided


def units_of_clip(family: str, pixels: torch.Tensor, grid: Any, processor: Any) -> torch.Tensor:
    """(T, U, D) pixels on [0, 1] from what a toy family's tower is given: units of 2 x 2 patches, or of one (LLaVA)."""
    part = getattr(processor, "video_processor", None) or processor.image_processor
    mean, std = (torch.tensor(values) for values in (part.image_mean, part.image_std))
    if grid is not None:
        frames, height, width = grid[0].tolist()
        rows = pixels.view(len(pixels), 3, -1) * std[:, None] + mean[:, None]
        return rows.reshape(frames, height * width // 4, -1)
    side = SIDE if family in ("llava", "llava_qwen") else 2 * SIDE
    whole = pixels * std[:, None, None] + mean[:, None, None]
    count = pixels.shape[-1] // side
    frames = []
    for picture in whole:
        squares = [
            picture[:, side * row : side * row + side, side * column : side * column + side].flatten()
            for row in range(count)
            for column in range(count)
        ]
        frames.append(torch.stack(squares))
    return torch.stack(frames)
