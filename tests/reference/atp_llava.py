"""ATP-LLaVA (arXiv 2412.00447), token by token: scores, thresholds, masks and the loss, straight from the paper."""

from __future__ import annotations

import math


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def mean_logits(queries, keys, asking, scale, gate=None):
    """queries: [heads][N][d] of visual tokens. keys: the same. asking: [heads][M][d]. Returns two lists of N."""
    heads, count = len(queries), len(queries[0])
    gate = [1.0] * count if gate is None else gate
    own, cross = [], []
    for token in range(count):
        over_keys, over_words = 0.0, 0.0
        for head in range(heads):
            for other in range(count):
                product = sum(a * b for a, b in zip(queries[head][token], keys[head][other], strict=True))
                over_keys += gate[other] * product * scale / sum(gate)
            for word in asking[head]:
                product = sum(a * b for a, b in zip(word, keys[head][token], strict=True))
                over_words += product * scale / len(asking[head])
        own.append(over_keys / heads)
        cross.append(over_words / heads)
    return own, cross


def mean(values, weights):
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def redundant_scores(own, cross, raw, gate=None):
    """S_red: the mean of both scores, as it is or with each in units of its spread around its mean."""
    gate = [1.0] * len(own) if gate is None else gate
    if raw:
        return [(a + b) / 2 for a, b in zip(own, cross, strict=True)]
    found = []
    for values in (own, cross):
        middle = mean(values, gate)
        spread = max(math.sqrt(mean([(v - middle) ** 2 for v in values], gate)), 1e-6)
        found.append([(v - middle) / spread for v in values])
    return [sigmoid((a + b) / 2) for a, b in zip(*found, strict=True)]


def spatial_scores(rows, columns, share):
    """S_s: 1 - 3 share on every k-th row and column, k squared times the share about 1; 0 elsewhere."""
    step = max(1, round(math.sqrt(1 / share)))
    value = max(0.0, 1 - 3 * share)
    return [value if r % step == 0 and c % step == 0 else 0.0 for r, c in zip(rows, columns, strict=True)]


def linear(weight, bias, values):
    return [sum(w * v for w, v in zip(row, values, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def thresholds(state, number, own, cross, gate=None):
    """theta_r and theta_s of module `number`. state: nested lists by name."""
    gate = [1.0] * len(own) if gate is None else gate
    part = {name.split(".", 2)[2]: v for name, v in state.items() if name.startswith(f"layers.{number}.")}
    z = linear(part["embed.weight"], part["embed.bias"], [mean(own, gate), mean(cross, gate)])
    return [sigmoid(linear(part[f"{head}.weight"], part[f"{head}.bias"], z)[0]) for head in ("redundant", "spatial")]


def soft_mask(redundant, spatial, theta, temperature):
    return [
        max(sigmoid(temperature * (r - theta[0])), sigmoid(temperature * (s - theta[1])))
        for r, s in zip(redundant, spatial, strict=True)
    ]


def kept(redundant, spatial, theta):
    """Tokens above either threshold, the best one if there is none."""
    found = [i for i, (r, s) in enumerate(zip(redundant, spatial, strict=True)) if r > theta[0] or s > theta[1]]
    return found or [redundant.index(max(redundant))]


def loss(counts, layers, tokens, target):
    """0.05 * sum of (kept / tokens) * layer + 0.2 * |mean kept - target|."""
    penalty = sum(count / tokens * layer for count, layer in zip(counts, layers, strict=True))
    return 0.05 * penalty + 0.2 * abs(sum(counts) / len(counts) - target)
