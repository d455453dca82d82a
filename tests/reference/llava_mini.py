"""LLaVA-Mini's two modules step by step, in lists."""

from __future__ import annotations

import math

from tests.reference.learned_layers import Matrix, Weights, added, attended, gelu, layer_norm, linear, multihead, silu
from tests.reference.vectors import Vector, dot


def place(row: int, column: int, width: int) -> Vector:
    """Sines, then cosines of the column, then those of the row."""
    quarter = width // 4
    rates = [10_000.0 ** -(n / quarter) for n in range(quarter)]
    return [f(at * rate) for at in (column, row) for f in (math.sin, math.cos) for rate in rates]


def cubic(x: float, a: float = -0.75) -> float:
    """Weight of a sample at distance x."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resized(table: list[Matrix], rows: int, columns: int) -> list[Matrix]:
    """A grid of vectors, brought to another size bicubically; what lies outside repeats the border."""

    def along(line: list[Vector], count: int) -> list[Vector]:
        out = []
        for i in range(count):
            at = (i + 0.5) * len(line) / count - 0.5
            base = math.floor(at)
            taps = [(min(max(base + k, 0), len(line) - 1), cubic(at - base - k)) for k in (-1, 0, 1, 2)]
            out.append([sum(w * line[j][d] for j, w in taps) for d in range(len(line[0]))])
        return out

    wide = [along(row, columns) for row in table]
    tall = [along([row[c] for row in wide], rows) for c in range(columns)]
    return [[tall[c][r] for c in range(columns)] for r in range(rows)]


def compressed(w: Weights, patches: Matrix, rows: int, columns: int, side: int, heads: int) -> Matrix:
    """side * side vectors that have read the patches of a picture, given by rows."""
    table = [[place(r, c, len(patches[0])) for c in range(side)] for r in range(side)]
    own = [vector for row in table for vector in row]
    where = [
        vector
        for row in (table if (rows, columns) == (side, side) else resized(table, rows, columns))
        for vector in row
    ]
    values = [layer_norm(x, w["ln_kv.weight"], w["ln_kv.bias"]) for x in patches]
    keys = [added(x, y) for x, y in zip(values, where, strict=True)]
    queries = [added(layer_norm(x, w["ln_q.weight"], w["ln_q.bias"]), y) for x, y in zip(w["query"], own, strict=True)]
    return multihead("attn", w, queries, keys, values, heads)


def projected(w: Weights, x: Vector) -> Vector:
    return linear([gelu(v) for v in linear(x, w["0.weight"], w["0.bias"])], w["2.weight"], w["2.bias"])


def rms_norm(x: Vector, weight: Vector, eps: float) -> Vector:
    size = math.sqrt(dot(x, x) / len(x) + eps)
    return [v / size * weight[i] for i, v in enumerate(x)]


def turned(x: Vector, position: int, width: int, theta: float) -> Vector:
    """Rotary positions, head by head: the first half of a head with the second."""
    out: Vector = []
    for head in range(len(x) // width):
        part, half = x[head * width : (head + 1) * width], width // 2
        angle = [position * theta ** (-2 * n / width) for n in range(half)]
        out += [part[n] * math.cos(angle[n]) - part[n + half] * math.sin(angle[n]) for n in range(half)]
        out += [part[n + half] * math.cos(angle[n]) + part[n] * math.sin(angle[n]) for n in range(half)]
    return out


def llama_layer(w: Weights, states: Matrix, heads: int, theta: float, eps: float) -> Matrix:
    """One decoder layer over states at positions 0, 1, 2, ..."""
    width = len(states[0]) // heads
    inner = [rms_norm(x, w["input_layernorm.weight"], eps) for x in states]
    q, k, v = ([linear(x, w[f"self_attn.{name}_proj.weight"]) for x in inner] for name in "qkv")
    q, k = ([turned(x, at, width, theta) for at, x in enumerate(rows)] for rows in (q, k))
    seen = attended(q, k, v, heads, lambda i, j: j <= i)
    states = [added(x, linear(y, w["self_attn.o_proj.weight"])) for x, y in zip(states, seen, strict=True)]
    out = []
    for x in states:
        y = rms_norm(x, w["post_attention_layernorm.weight"], eps)
        gate = [silu(one) for one in linear(y, w["mlp.gate_proj.weight"])]
        wide = [a * b for a, b in zip(gate, linear(y, w["mlp.up_proj.weight"]), strict=True)]
        out.append(added(x, linear(wide, w["mlp.down_proj.weight"])))
    return out
