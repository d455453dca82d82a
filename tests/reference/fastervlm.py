"""FasterVLM for one picture, from its specification."""

from __future__ import annotations

from torch import Tensor


def fastervlm(saliency: Tensor, count: int) -> list[int]:
    """The `count` tokens of highest saliency, in reading order; of equals the earlier ones."""
    scores = saliency.tolist()
    by_score = sorted(range(len(scores)), key=lambda token: -scores[token])
    return sorted(by_score[:count])
