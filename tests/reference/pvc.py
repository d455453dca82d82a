"""PVC's temporal block and pixel shuffle step by step, in lists."""

from __future__ import annotations

import math

from tests.reference.learned_layers import Matrix, Weights, attended, gelu, layer_norm, linear, silu
from tests.reference.vectors import Vector


def moment(frame: int, frames: int) -> Vector:
    rates = [10_000.0 ** -(n / 128) for n in range(128)]
    return [f(1000.0 * frame / frames * rate) for f in (math.cos, math.sin) for rate in rates]


def temporal_block(w: Weights, grid: list[Matrix], there: list[list[bool]], heads: int) -> list[Matrix]:
    """grid[frame][place] is a vector; there[frame][place] whether a token stands there."""
    frames, places, width = len(grid), len(grid[0]), len(grid[0][0])
    out = [[list(x) for x in row] for row in grid]
    modulation = []
    for frame in range(frames):
        known = [silu(v) for v in linear(moment(frame, frames), w["time.0.weight"], w["time.0.bias"])]
        known = [silu(v) for v in linear(known, w["time.2.weight"], w["time.2.bias"])]
        modulation.append(linear(known, w["modulation.weight"], w["modulation.bias"]))
    for at in range(places):
        q, k, v = [], [], []
        for frame in range(frames):
            shift, scale = modulation[frame][:width], modulation[frame][width : 2 * width]
            x = [one * (1 + scale[d]) + shift[d] for d, one in enumerate(layer_norm(grid[frame][at]))]
            mapped = linear(x, w["qkv.weight"], w["qkv.bias"])
            q.append(mapped[:width])
            k.append(mapped[width : 2 * width])
            v.append(mapped[2 * width :])
        seen = attended(q, k, v, heads, lambda i, j, at=at: j <= i and (j == i or there[j][at]))
        for frame in range(frames):
            gate = modulation[frame][2 * width :]
            new = linear(seen[frame], w["out.weight"], w["out.bias"])
            out[frame][at] = [x + gate[d] * new[d] for d, x in enumerate(grid[frame][at])]
    return out


def shuffled(w: Weights, picture: list[Matrix], factor: int) -> list[Matrix]:
    """picture[row][column] of one frame -> tokens of squares of `factor`, in the same form."""
    rows, columns = len(picture), len(picture[0])
    out = []
    for top in range(0, rows, factor):
        line = []
        for left in range(0, columns, factor):
            square: Vector = []
            for r in range(top, top + factor):
                for c in range(left, left + factor):
                    square += picture[min(r, rows - 1)][min(c, columns - 1)]
            x = layer_norm(square, w["0.weight"], w["0.bias"])
            x = [gelu(v) for v in linear(x, w["1.weight"], w["1.bias"])]
            line.append(linear(x, w["3.weight"], w["3.bias"]))
        out.append(line)
    return out
