"""What the embedded model was trained on, so that nobody takes its answers to anything else for answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from framefusion.inference.tiny import is_embedded

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

COLOURS = "red|green|blue|yellow|pink|cyan|white"
SHAPES = "circle|square|triangle|cross|ring"
FRAMES = 32

KNOWN = (
    rf"what colour is the (?:{SHAPES})",
    rf"what shape is the (?:{COLOURS}) thing",
    r"how many things are there",
    rf"which way does the (?:{COLOURS}) thing move",
    rf"which is faster, (?:{COLOURS}) or (?:{COLOURS})",
    rf"where is the (?:{COLOURS}) thing at the end",
    rf"is (?:{COLOURS}) left or right of (?:{COLOURS}) at the end",
    rf"which appeared first, (?:{COLOURS}) or (?:{COLOURS})",
    rf"in which order did (?:{COLOURS}), (?:{COLOURS}) and (?:{COLOURS}) appear",
    r"which colour flashed",
    r"which digit was shown",
    r"what changed",
)
"""Every question of its training, as a pattern without its question mark."""


def asks_known(question: str) -> bool:
    """Whether the embedded model was trained on this question; its tokenizer reads capitals and `color` alike."""
    words = " ".join(question.lower().replace("color", "colour").replace("object", "thing").split())
    return any(re.fullmatch(pattern, words.rstrip("? .")) for pattern in KNOWN)


def remarks(model: str, media: Sequence[Clip], question: str) -> list[str]:
    """What to tell somebody who asks the embedded model about something else than it knows; often nothing.

    model: name or path of the one that is asked, of which others get no remarks.
    """
    if not is_embedded(model):
        return []
    found = []
    if not asks_known(question):
        found.append(
            f"the embedded model knows {len(KNOWN)} kinds of questions, and this is none of them, so its answer means "
            'nothing; ask "what changed?", "how many things are there?", "which way does the red thing move?" or one '
            "that `framefusion demo` shows, or take another model"
        )
    if len(media) != 1 or not _looks_known(media[0]):
        found.append(
            f"the embedded model knows square clips of {FRAMES} frames with moving shapes, but no pictures and no real "
            "videos; `framefusion demo` shows one; take another model"
        )
    return found


def _looks_known(clip: Clip) -> bool:
    """As far as counts and sizes tell."""
    count, height, width, _ = clip.frames.shape
    return not clip.still and count == FRAMES and height == width
