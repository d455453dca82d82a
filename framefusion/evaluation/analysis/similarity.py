"""Similarity of neighbouring frames by depth, and how far its order stays the same from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from framefusion.evaluation.analysis.observe import Observe
from framefusion.evaluation.analysis.rank import spearman
from framefusion.evaluation.calibration import threshold_of
from framefusion.evaluation.prefill import prefill
from framefusion.inference.reduction import reduce_clips

if TYPE_CHECKING:
    from torch import Tensor, nn

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
BINS = 50
# The share of the least similar pairs that may fall off the histogram's lower end.
TAIL = 0.01


@dataclass(frozen=True)
class Analysis:
    """What was seen over V videos in a decoder of `layers` layers; arrays are indexed by layer first.

    tokens: visual tokens that have a token at their place in the previous frame, over all videos.
    quantiles: (layers, 5) of their cosine with it, in the states that enter each layer; at 5, 25, 50, 75 and 95 %.
    shares: (layers, 5) of them with a cosine of at least 0.5, 0.6, 0.7, 0.8 and 0.9.
    histogram: (layers, 50) share in each of 50 equal bins between `low` and 1; the first also counts what lies below.
    rank_correlation: (layers, layers) Spearman's correlation of the cosines of two layers, the mean over videos.
    medians: (V,) at the input of the first layer. recommended: their mean, the threshold of the calibration rule.
    """

    videos: int
    tokens: int
    quantiles: np.ndarray = field(repr=False)
    shares: np.ndarray = field(repr=False)
    histogram: np.ndarray = field(repr=False)
    low: float
    rank_correlation: np.ndarray = field(repr=False)
    medians: tuple[float, ...]
    recommended: float

    @property
    def layers(self) -> int:
        return len(self.quantiles)

    @property
    def median(self) -> np.ndarray:
        """(layers,)"""
        return self.quantiles[:, QUANTILES.index(0.5)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a correlation that does not exist (all cosines equal) is None."""
        edges = np.linspace(self.low, 1.0, BINS + 1)
        return {
            "videos": self.videos,
            "tokens": self.tokens,
            "layers": self.layers,
            "similarity": [
                {
                    "layer": layer,
                    "quantiles": _named(QUANTILES, self.quantiles[layer]),
                    "share_at_least": _named(THRESHOLDS, self.shares[layer]),
                    "histogram": [round(float(share), 6) for share in self.histogram[layer]],
                }
                for layer in range(self.layers)
            ],
            "histogram_edges": [round(float(edge), 6) for edge in edges],
            "rank_correlation": [[_number(value) for value in row] for row in self.rank_correlation],
            "medians": list(self.medians),
            "recommended_threshold": self.recommended,
        }


def analyze(model: nn.Module, inputs: Iterable[Mapping[str, Any]]) -> Analysis:
    """Watch `model` read videos.

    model: as for `framefusion.reduce`; it is left as it was. inputs: what the processor returns for each video.

    Raises OptionError when no prompt has a token with a predecessor in time.
    """
    observed = Observe()
    with reduce_clips(model, observed):
        for prompt in inputs:
            prefill(model, prompt)
    return analysis_of([torch.stack(row) for row in observed.seen if row and row[0].numel()])


def analysis_of(rows: list[Tensor]) -> Analysis:
    """rows: per video (layers, n) cosines, n at least 1."""
    recommended = threshold_of([row[0] for row in rows])
    seen = torch.cat(rows, 1).double().numpy()
    low = math.floor(10 * float(np.quantile(seen, TAIL, axis=1).min())) / 10
    counts = np.stack([np.histogram(layer.clip(low, 1.0), BINS, (low, 1.0))[0] for layer in seen])
    return Analysis(
        videos=len(rows),
        tokens=seen.shape[1],
        quantiles=np.quantile(seen, QUANTILES, axis=1).T,
        shares=np.stack([(seen >= threshold).mean(1) for threshold in THRESHOLDS], 1),
        histogram=counts / seen.shape[1],
        low=low,
        rank_correlation=_mean_over_videos([spearman(row).numpy() for row in rows]),
        medians=tuple(float(row[0].median()) for row in rows),
        recommended=recommended,
    )


def _mean_over_videos(found: list[np.ndarray]) -> np.ndarray:
    """Mean of V (layers, layers) matrices over those that are defined; NaN where none is."""
    stacked = np.stack(found)
    count = (~np.isnan(stacked)).sum(0)
    total = np.nansum(stacked, axis=0)
    return np.divide(total, count, out=np.full(total.shape, math.nan), where=count > 0)


def _named(names: tuple[float, ...], values: np.ndarray) -> dict[str, float]:
    return {f"{name:g}": float(value) for name, value in zip(names, values, strict=True)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
