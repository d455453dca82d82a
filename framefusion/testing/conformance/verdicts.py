"""What the oracle says of a family's videos and pictures, in a word or two for the table."""

from __future__ import annotations

from collections.abc import Sequence

from framefusion.core.errors import FrameFusionError
from framefusion.testing.conformance.oracle import Blurred, Disagreement, NotRun, Oracle, Unread
from framefusion.testing.conformance.reading import OPTIONS
from framefusion.testing.conformance.visuals import Visual, clip

RIGHT, NONE = "right", "none"
TOUCHING = "one clip where nothing stands between them"
WIDE = Visual("image", clip(1, 120, 240, seed=7))
PICTURE, OTHER = Visual("image", clip(1, 168, 168, seed=9)), Visual("image", clip(1, 168, 168, seed=8))
MOVING = Visual("video", clip(4))

VIDEOS: Sequence[tuple[str, Sequence[Visual]]] = (
    ("alone", (Visual("video", clip(5)),)),
    ("static", (Visual("video", clip(4, moving=False)),)),
    ("two", (MOVING, Visual("video", clip(4, seed=1)))),
    ("twice", (MOVING, MOVING)),
    ("with a picture", (Visual("image", clip(1, seed=9)), MOVING)),
)
PICTURES: Sequence[tuple[str, Sequence[Visual]]] = (
    ("alone", (PICTURE,)),
    ("two", (PICTURE, OTHER)),
    ("twice", (PICTURE, PICTURE)),
    ("five", (PICTURE, OTHER, PICTURE, WIDE, PICTURE)),
    ("wide", (WIDE,)),
)
"""Those of one visual are looked at in every frame and at several places."""


def verdicts(name: str, class_name: str) -> tuple[str, str]:
    """Of videos and of pictures: `right`, `right; refused by transformers: ...`, `not run: ...`, or what is wrong."""
    try:
        oracle = Oracle(name, class_name)
    except NotRun as error:
        return f"not run: {error}", f"not run: {error}"
    return verdict(oracle, VIDEOS) if oracle.takes_video else NONE, verdict(oracle, PICTURES)


def _fitting(oracle: Oracle, visuals: Sequence[Visual]) -> list[Visual]:
    """With no more frames than the family's processor writes tokens for."""
    most = OPTIONS.get(oracle.name, {}).get("frames")
    return [Visual(visual.kind, visual.pixels[:most]) for visual in visuals]


def verdict(oracle: Oracle, cases: Sequence[tuple[str, Sequence[Visual]]]) -> str:
    refused: list[str] = []
    unread: list[str] = []
    touching: list[str] = []
    blurred: list[str] = []
    for number, (case, visuals) in enumerate(cases):
        try:
            _judge(oracle, _fitting(oracle, visuals), touching, case)
        except Disagreement as error:
            return f"wrong, {case}: {error}"
        except FrameFusionError as error:
            return f"refused, {case}: {str(error).splitlines()[0]}"
        except Blurred:
            blurred.append(case)
        except Unread:
            unread.append(case)
        except NotRun as error:
            if number == 0:
                return f"not run: {error}"
            refused.append(case)
    said = {"transformers refuses": refused, "transformers reads the first alone": unread, TOUCHING: touching}
    said |= {"no place can be told": blurred}
    return "; ".join([RIGHT, *(f"{what}: {', '.join(which)}" for what, which in said.items() if which)])


def _judge(oracle: Oracle, visuals: Sequence[Visual], touching: list[str], case: str) -> None:
    """Raises what `Oracle.judge` does. touching: where a case goes that is right with a line break between alone."""
    try:
        oracle.judge(visuals, whole=len(visuals) == 1)
    except Disagreement:
        if len(visuals) == 1:
            raise
        oracle.judge(visuals, whole=False, between="\n")
        touching.append(case)
