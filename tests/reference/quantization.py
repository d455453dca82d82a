"""Min-max asymmetric rounding and 8-bit attention, one number at a time (arXiv 2402.18158 and 2410.02367)."""

from __future__ import annotations

import math


def rounded(values, bits):
    """One group of numbers -> what 2**bits even steps between its ends leave of them."""
    low, high = min(values), max(values)
    step = (high - low) / (2**bits - 1)
    if step == 0:
        return list(values)
    return [low + round((value - low) / step) * step for value in values]


def rounded_row(row, bits, group):
    """A row of numbers, in groups of neighbours; the last group may be shorter."""
    found = []
    for start in range(0, len(row), group):
        found += rounded(row[start : start + group], bits)
    return found


def whole_numbers(rows, block):
    """Rows -> (integers, scale of each row): `block` neighbouring rows share the scale that makes their largest 127."""
    integers, scales = [], []
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        scale = max(abs(value) for row in part for value in row) / 127
        integers += [[round(value / scale) for value in row] for row in part]
        scales += [scale] * len(part)
    return integers, scales


def attention(queries, keys, values, scale, visible, query_block, key_block, bits8=True):
    """One head. queries: Q rows, keys and values: S rows. visible(q, s) -> bool. Full precision with bits8 False."""
    if bits8:
        width = len(keys[0])
        mean = [sum(row[at] for row in keys) / len(keys) for at in range(width)]
        keys = [[value - mean[at] for at, value in enumerate(row)] for row in keys]
        queries, query_scales = whole_numbers([[value * scale for value in row] for row in queries], query_block)
        keys, key_scales = whole_numbers(keys, key_block)
    else:
        query_scales, key_scales = [scale] * len(queries), [1.0] * len(keys)
    answers = []
    for number, query in enumerate(queries):
        seen = [place for place in range(len(keys)) if visible(number, place)]
        logits = [
            sum(a * b for a, b in zip(query, keys[place], strict=True)) * query_scales[number] * key_scales[place]
            for place in seen
        ]
        exponents = [math.exp(logit - max(logits)) for logit in logits]
        answers.append(
            [
                sum(weight * values[place][at] for weight, place in zip(exponents, seen, strict=True)) / sum(exponents)
                for at in range(len(values[0]))
            ]
        )
    return answers
