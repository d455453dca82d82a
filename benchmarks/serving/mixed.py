"""The mixed requests of a soak, and what tells an answer about one thing from an answer about another."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.serving.media import drawn, noise
from tests.support.served import TYPES, part_of, text_of

QUESTION = "What is there?"
CLIPS, PICTURES = 3, 2
SAME = 0.01
"""Log-probabilities of one answer differ by less, in whatever company it was computed."""


class End(StrEnum):
    """How a request is meant to end."""

    ANSWERED = "answered"
    STREAMED = "streamed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Request:
    """content: of its message. extra: fields that the openai client does not know."""

    name: str
    end: End
    content: Sequence[Mapping[str, Any]]
    extra: Mapping[str, Any] = field(default_factory=dict)


def mixed(folder: Path) -> list[Request]:
    """Every kind of request, about files that are written into `folder`."""
    clips = [noise(folder / f"{seed}.mp4", frames=8, side=56, seed=seed) for seed in range(CLIPS)]
    pictures = drawn(folder, PICTURES, 112, 56)
    shown = [part_of("video_url", clip) for clip in clips]
    seen = [part_of("image_url", picture) for picture in pictures]
    found = []
    for number, clip in enumerate(shown):
        for end in (End.ANSWERED, End.STREAMED):
            found.append(_request(f"reduced {number}", end, clip))
        found.append(_request(f"dense {number}", End.ANSWERED, clip, keep=1.0))
        found.append(_request(f"by pixels {number}", End.ANSWERED, clip, method="pixel_dedup", keep=0.4))
        found.append(_request(f"cancelled stream {number}", End.CANCELLED, clip))
    for number, picture in enumerate(seen):
        found.append(_request(f"picture {number}", End.ANSWERED, picture))
        found.append(_request(f"whole picture {number}", End.STREAMED, picture, pictures=False))
    found.append(_request("two videos and a picture", End.ANSWERED, shown[0], seen[0], shown[1], keep=0.5))
    found.append(_request("text", End.STREAMED))
    whole = clips[0].read_bytes()
    for name, content in (("no video", b"no video at all"), ("half a video", whole[: len(whole) // 2])):
        found.append(_request(name, End.REFUSED, _broken(content)))
    found.append(_request("wrong settings", End.REFUSED, shown[0], keep=1.5))
    return found


def _request(name: str, end: End, *parts: Mapping[str, Any], **settings: Any) -> Request:
    extra = {"mm_processor_kwargs": {"visual_reduction": settings}} if settings else {}
    return Request(name, end, [*parts, text_of(QUESTION)], extra)


def _broken(content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "video_url", "video_url": {"url": f"data:{TYPES['video_url']};base64,{data}"}}


Answer = tuple[float, ...]
"""Log-probabilities of its tokens."""


def distance(one: Answer, other: Answer) -> float:
    return max((abs(mine - theirs) for mine, theirs in zip(one, other, strict=False)), default=0.0)


def check_told_apart(expected: Mapping[str, Answer]) -> None:
    """Raises RuntimeError where two requests are answered alike: nothing would show that answers were mixed up."""
    names = sorted(expected)
    for number, name in enumerate(names):
        for other in names[:number]:
            if distance(expected[name], expected[other]) < 2 * SAME:
                raise RuntimeError(f"`{name}` and `{other}` are answered alike")


def owner(answer: Answer, expected: Mapping[str, Answer]) -> str | None:
    """Whose answer it is; None for one that nobody was given before."""
    name = min(expected, key=lambda name: distance(answer, expected[name]))
    return name if distance(answer, expected[name]) < SAME else None
