"""Whether a family's vision tower leaves out what does not change, by running it on a clip: a word for the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from framefusion.core.errors import FrameFusionError, UnsupportedPointError
from framefusion.inference.reduction import reduce
from framefusion.methods.pixel_dedup import PixelDedup
from framefusion.models.pixel_range import pixel_range
from framefusion.testing.conformance.oracle import NotRun, Oracle
from framefusion.testing.conformance.visuals import Visual, clip

EXACT, REFUSED, NOT_RUN, UNCHANGED = "exact", "refused", "not run", "wrong: everything was encoded"
FRAMES, WINDOW = 6, 2
CLOSE = 1e-3


def encoding(name: str, class_name: str) -> str:
    """`exact`, `refused`, `not run`, or what is wrong.

    exact: a clip that stands still is encoded once and answered as without the method, to the bit; one that moves is
    encoded in part, and in windows of frames as all at once.
    """
    try:
        pixel_range(name, None, video=True)  # what every run asks first
        oracle = Oracle(name, class_name)
        still, moving = (_inputs(oracle, clip(FRAMES, moving=moves)) for moves in (False, True))
        dense = _logits(oracle, still, None)[0]
        found, patches, every = _logits(oracle, still, PixelDedup(threshold=0.0))
    except NotRun:
        return NOT_RUN
    except UnsupportedPointError:
        return REFUSED
    except FrameFusionError as error:
        return f"wrong: {error.what}"
    if not 0 < patches < every:
        return UNCHANGED
    if not torch.equal(found, dense):
        return "wrong: a clip that stands still is answered in another way"
    return _in_windows(oracle, moving)


def _in_windows(oracle: Oracle, moving: Mapping[str, Any]) -> str:
    method = PixelDedup(keep=0.6)
    whole, patches, every = _logits(oracle, moving, method)
    if not 0 < patches < every:
        return UNCHANGED
    windowed = _logits(oracle, moving, method, tower_frames=WINDOW)[0]
    return EXACT if torch.allclose(windowed, whole, atol=CLOSE) else "wrong: windows of frames give something else"


def _inputs(oracle: Oracle, pixels: Any) -> Mapping[str, Any]:
    if oracle.takes_video:
        return oracle.inputs([Visual("video", pixels)])
    return oracle.inputs([Visual("image", pixels[frame : frame + 1]) for frame in range(len(pixels))])


@torch.no_grad()
def _logits(
    oracle: Oracle, inputs: Mapping[str, Any], method: PixelDedup | None, **options: Any
) -> tuple[torch.Tensor, int, int]:
    """Of the last column, with the patches that were encoded and those there are."""
    try:
        if method is None:
            return oracle.model(**inputs).logits[:, -1], 0, 0
        frames = not oracle.takes_video
        with reduce(oracle.model, method, pictures_are_frames=frames, processor=oracle.reader, **options) as reduction:
            logits = oracle.model(**inputs).logits[:, -1]
    except FrameFusionError:
        raise
    except Exception as error:
        raise NotRun(str(error)) from error
    return logits, reduction.report.patches, reduction.report.patches_dense
