"""Layers of the trained systems written out on lists of vectors, weights as nested lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.reference.vectors import Vector, dot

Matrix = list[Vector]
Weights = Mapping[str, Any]


def linear(x: Vector, weight: Matrix, bias: Vector | None = None) -> Vector:
    return [dot(row, x) + (bias[i] if bias else 0.0) for i, row in enumerate(weight)]


def layer_norm(x: Vector, weight: Vector | None = None, bias: Vector | None = None, eps: float = 1e-5) -> Vector:
    middle = sum(x) / len(x)
    spread = math.sqrt(sum((v - middle) ** 2 for v in x) / len(x) + eps)
    return [
        (v - middle) / spread * (weight[i] if weight else 1.0) + (bias[i] if bias else 0.0) for i, v in enumerate(x)
    ]


def gelu(v: float) -> float:
    return 0.5 * v * (1.0 + math.erf(v / math.sqrt(2.0)))


def silu(v: float) -> float:
    return v / (1.0 + math.exp(-v))


def softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    power = [math.exp(score - top) for score in scores]
    return [one / sum(power) for one in power]


def attended(
    queries: Matrix, keys: Matrix, values: Matrix, heads: int, sees: Callable[[int, int], bool] = lambda i, j: True
) -> Matrix:
    """Heads side by side; fewer key heads than query heads are shared by neighbours."""
    width = len(queries[0]) // heads
    shared = heads // (len(keys[0]) // width)
    out = [[] for _ in queries]
    for head in range(heads):
        own = slice(head // shared * width, (head // shared + 1) * width)
        for i, query in enumerate(queries):
            seen = [j for j in range(len(keys)) if sees(i, j)]
            part = query[head * width : (head + 1) * width]
            share = softmax([dot(part, keys[j][own]) / math.sqrt(width) for j in seen])
            out[i] += [sum(share[n] * values[j][own][d] for n, j in enumerate(seen)) for d in range(width)]
    return out


def multihead(name: str, w: Weights, queries: Matrix, keys: Matrix, values: Matrix, heads: int) -> Matrix:
    """torch.nn.MultiheadAttention."""
    width = len(queries[0])
    weight, bias = w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"]
    parts = [slice(n * width, (n + 1) * width) for n in range(3)]
    mapped = [
        [linear(x, weight[part], bias[part]) for x in rows]
        for part, rows in zip(parts, (queries, keys, values), strict=True)
    ]
    return [linear(x, w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"]) for x in attended(*mapped, heads)]


def added(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]
