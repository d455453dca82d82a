"""What is left of a trained tower's features, against controls that encode as many patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

import framefusion as ff
from benchmarks.timing import Laps
from benchmarks.tower import clips, trained
from benchmarks.tower.controls import FewerFrames, RandomUnits, enlarged, smaller_side
from benchmarks.tower.runs import DENSE, REDUCED
from framefusion.inference.answer.split import timed
from framefusion.models.pixel_range import IMAGENET

FIDELITY = "fidelity"
SIDE, FADE_SIDE = 336, 224
"""Pixels along a side of the frames."""
COPIED, DROPPED, RANDOM = "copied, not blended", "plain dropping", "random units"
FEWER, FEWER_BLENDED, SMALLER = "fewer frames", "fewer frames, blended", "smaller frames"
INSIDE = {"ToMe": partial(ff.ToMe, keep=0.5), "IPCV": ff.IPCV}
"""Methods that act inside the tower, at their defaults; they work on other shares than the rule."""
THRESHOLDS = (0.12, 0.18, 0.25)
"""Beside the default."""


@dataclass
class Trial:
    """One clip in the trained tower. facts: of each variant, its share of the patches and its cosines to dense.

    clip: (T, H, W, 3) bytes. from_frame: the first one whose features are compared.
    """

    weights: Path
    clip: Tensor
    side: int
    from_frame: int = 0
    facts: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = trained.build(self.weights, self.side)
        self.units = self.side // (self.model.config.vision_config.patch_size * trained.MERGE)
        self.dense: Tensor | None = None

    def runs(self) -> dict[str, Callable[[], Laps]]:
        """Dense first, then reduced: the controls take as many units as that encoded."""
        if self.from_frame:
            return {variant: partial(self._run, variant) for variant in (DENSE, REDUCED)}
        variants = (DENSE, REDUCED, *map(_at, THRESHOLDS), COPIED, DROPPED, RANDOM, FEWER, FEWER_BLENDED, SMALLER)
        variants = (*variants, *INSIDE)
        return {variant: partial(self._run, variant) for variant in variants}

    def _run(self, variant: str) -> Laps:
        side = self.side
        if variant == SMALLER:
            unit = self.side // self.units
            side = smaller_side(side, self.facts[REDUCED]["patches_share"], unit)
        pixels = clips.normalised(clips.resized(self.clip, side), IMAGENET.mean, IMAGENET.std)
        with timed(self.model.model.vision_tower) as spent:
            found, share = trained.features(self.model, pixels, self._method(variant))
        if side != self.side:
            found, share = enlarged(found, self.units), (side / self.side) ** 2
        if self.dense is None:
            self.dense = found
        near = trained.fidelity(found[self.from_frame :], self.dense[self.from_frame :])
        self.facts[variant] = {"patches_share": round(share, 4), **near}
        return {FIDELITY: sum(spent)}

    def _method(self, variant: str) -> ff.Method | None:
        if variant in (DENSE, SMALLER):
            return None
        count = round(self.facts.get(REDUCED, {}).get("patches_share", 1.0) * self.units**2 * len(self.clip))
        methods: dict[str, Any] = {
            REDUCED: ff.PixelDedup,
            **{_at(threshold): partial(ff.PixelDedup, threshold=threshold) for threshold in THRESHOLDS},
            COPIED: partial(ff.PixelDedup, blend=False),
            DROPPED: partial(ff.PixelDedup, reuse=False, blend=False),
            RANDOM: partial(RandomUnits, count=count),
            FEWER: partial(FewerFrames, count=count, blend=False),
            FEWER_BLENDED: partial(FewerFrames, count=count),
            **INSIDE,
        }
        return methods[variant]()


def _at(threshold: float) -> str:
    return f"{REDUCED}, threshold {threshold:g}"


def weights_in(folder: Path | None) -> Path | None:
    """Where the checkpoint of `scripts.trained_vit` lies; made on the first use. None where it cannot be had."""
    if folder is not None:
        return folder
    from scripts.trained_vit import fetch

    try:
        return fetch()
    except RuntimeError:
        return None
