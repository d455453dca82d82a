"""Gemma 4: every patch comes with its place (x, y), squares of patches are pooled, videos come with their frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import flat_frames, lay_templates
from framefusion.models.placeholders import image_token, video_token
from framefusion.models.runs import run_lengths

if TYPE_CHECKING:
    from torch import Tensor


def pictures(places: Tensor | None, lengths: Iterator[int]) -> Iterator[Geometry]:
    """One template per picture. places: (n, P, 2), or (videos, frames, P, 2) as older releases hold them, x and y
    of its patches, -1 at padding. lengths: of its tokens.
    """
    if places is None:
        yield from (flat_frames(1, length) for length in lengths)
        return
    places, known = places.flatten(0, -3), list(lengths)
    lengths = iter([*[0] * (len(places) - len(known)), *known])  # pictures of earlier turns come first
    for columns, rows in (places.amax(1) + 1).tolist():
        # A picture that was not pooled has a token for every patch; the runs say which it is.
        length = next(lengths, 0)
        pooled = max(1, round((rows * columns / length) ** 0.5)) if length else 1
        yield Geometry.grid(1, rows // pooled, columns // pooled)


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    image, video = image_token(config), video_token(config)
    places, counts = inputs.get("video_position_ids"), inputs.get("num_frames_per_video")
    frames = list(pictures(places, run_lengths(ids, video)))
    each = places.shape[1] if places is not None and places.ndim == 4 else 1
    spans = counts.tolist() if counts is not None else [each] * (len(frames) // each)
    clips = (Geometry.following(frames[sum(spans[:n]) : sum(spans[: n + 1])]) for n in range(len(spans)))
    return lay_templates(
        ids, [(image, pictures(inputs.get("image_position_ids"), run_lengths(ids, image))), (video, clips)]
    )


GEMMA4 = Family("gemma4", layout)
GEMMA4_UNIFIED = Family("gemma4_unified", layout)
