"""Which units are encoded, written out with loops: compared with the last encoded one at the same place."""

from __future__ import annotations

import math
from typing import Any

import torch

PATCH = 7


def cells_of(unit: Any) -> list[list[float]]:
    """[picture][value]: means over squares of 7 x 7 pixels. unit: [picture][channel][row][column]."""
    count = len(unit[0][0]) // 7
    return [
        [
            sum(channel[7 * i + y][7 * j + x] for y in range(7) for x in range(7)) / 49
            for channel in picture
            for i in range(count)
            for j in range(count)
        ]
        for picture in unit
    ]


def contrast_of(unit: Any) -> float:
    """Spread of the cells of a channel, averaged over channels and pictures."""
    spreads, cells = [], cells_of(unit)
    for picture in cells:
        size = len(picture) // 3
        for channel in range(3):
            values = picture[channel * size : (channel + 1) * size]
            mean = sum(values) / len(values)
            spreads.append(math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)))
    return sum(spreads) / len(spreads)


def change_of(now: tuple, then: tuple) -> float:
    pairs = [pair for one, other in zip(now[0], then[0], strict=True) for pair in zip(one, other, strict=True)]
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs)) / (min(now[1], then[1]) + 0.1)


def encoded_units(
    clip: Any, columns: int, threshold: float, refresh: int | None = None
) -> tuple[list[list[bool]], list[list[float]]]:
    """[frame][unit] whether encoded, and how much of the next encoding it takes where it is not.

    clip: [frame][unit][picture][channel][row][column] on [0, 1], units in reading order.
    """
    seen = [[(cells_of(unit), contrast_of(unit)) for unit in frame] for frame in clip]
    units = len(clip[0])
    last, shown, encoded = [0] * units, [[0] * units], [[True] * units]
    for frame in range(1, len(clip)):
        due = []
        for unit in range(units):
            change = with_surroundings(seen, frame, last[unit], unit, columns)
            old = refresh is not None and frame - last[unit] >= refresh and change > 0
            due.append(change > threshold or old)
        last = [frame if now else before for now, before in zip(due, last, strict=True)]
        encoded.append(due)
        shown.append(last)
    return encoded, [
        [weight_of(seen, encoded, shown[frame][unit], frame, unit, columns) for unit in range(units)]
        for frame in range(len(clip))
    ]


def with_surroundings(seen: Any, frame: int, other: int, unit: int, columns: int) -> float:
    """Change of a unit and, half as much, of the up to 3 x 3 units around it, between two frames."""
    rows, (row, column) = len(seen[0]) // columns, divmod(unit, columns)
    around = [
        change_of(seen[frame][r * columns + c], seen[other][r * columns + c])
        for r in range(row - 1, row + 2)
        for c in range(column - 1, column + 2)
        if 0 <= r < rows and 0 <= c < columns
    ]
    return (change_of(seen[frame][unit], seen[other][unit]) + 0.5 * sum(around) / len(around)) / 1.5


def weight_of(seen: Any, encoded: list[list[bool]], before: int, frame: int, unit: int, columns: int) -> float:
    later = [number for number in range(frame + 1, len(seen)) if encoded[number][unit]]
    if encoded[frame][unit] or not later:
        return 0.0
    back, ahead = (with_surroundings(seen, frame, other, unit, columns) for other in (before, later[0]))
    return back / (back + ahead) if back else 0.0


def units_of_clip(family: str, pixels: torch.Tensor, grid: Any, processor: Any) -> torch.Tensor:
    """(T, U, F, 3, s, s) pixels on [0, 1] from what a toy family's tower is given: of 2 x 2 patches, or of 1."""
    part = getattr(processor, "video_processor", None) or processor.image_processor
    mean, std = (torch.tensor(values)[:, None, None] for values in (part.image_mean, part.image_std))
    if grid is not None:
        frames, height, width = grid[0].tolist()
        made = []
        for number in range(frames * height * width // 4):
            four = [row.view(3, -1, PATCH, PATCH) for row in pixels[4 * number : 4 * number + 4]]
            whole = torch.cat([torch.cat(four[:2], -1), torch.cat(four[2:], -1)], -2)
            made.append(whole.transpose(0, 1) * std + mean)
        return torch.stack(made).unflatten(0, (frames, -1))
    side = PATCH if family == "llava" else 2 * PATCH
    whole, count = pixels * std + mean, pixels.shape[-1] // side
    return torch.stack(
        [
            torch.stack(
                [
                    picture[None, :, side * row : side * row + side, side * column : side * column + side]
                    for row in range(count)
                    for column in range(count)
                ]
            )
            for picture in whole
        ]
    )
