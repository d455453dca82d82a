"""Whether a model knows what it knows: its confidence against how often it is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 10


def calibration_error(confidence: Sequence[float], correct: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: confidence minus accuracy in equally wide bins of confidence, without sign, averaged.

    confidence: n probabilities of the answers. Each bin counts as often as it holds answers; 0 is perfect.
    """
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = (np.bincount(place, sure - right, minlength=bins)).tolist()
    return sum(map(abs, gaps)) / len(sure) if len(sure) else float("nan")


def overconfidence(confidence: Sequence[float], correct: Sequence[bool]) -> float:
    """Mean confidence minus accuracy; above 0 the model is surer than it should be."""
    return float(np.mean(confidence) - np.mean(correct)) if len(correct) else float("nan")
