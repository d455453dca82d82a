"""DART step by step, in float64, from its specification."""

from __future__ import annotations

from torch import Tensor

from tests.reference.divprune import cosine


def strongest(keys: Tensor, count: int) -> list[int]:
    """Indices of the (n, H, d) keys with the largest L1 norm, strongest first."""
    norm = [float(key.double().abs().sum()) for key in keys]
    return sorted(range(len(norm)), key=lambda i: (-norm[i], i))[:count]


def dart(
    tokens: Tensor, keys: Tensor, text: Tensor, text_keys: Tensor, count: int, visual: int, words: int
) -> list[int]:
    """Indices that DART keeps of the (N, D) tokens of one clip."""
    kept = strongest(keys, min(visual, count))
    pivots = [tokens[i] for i in kept] + [text[i] for i in strongest(text_keys, words)]
    rest = count - len(kept)
    shares = [rest // len(pivots) + (1 if number < rest % len(pivots) else 0) for number in range(len(pivots))]
    for pivot, share in zip(pivots, shares, strict=True):
        free = [i for i in range(len(tokens)) if i not in kept]
        kept = kept + sorted(free, key=lambda i: (cosine(tokens[i], pivot), i))[:share]
    return sorted(kept)
