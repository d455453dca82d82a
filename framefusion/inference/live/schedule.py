"""When which question is asked of a stream."""

from __future__ import annotations

import re
from collections.abc import Sequence

from framefusion.core.errors import OptionError

_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?)")


def seconds_of(text: str) -> float:
    """Seconds of `HH:MM:SS`, `MM:SS` or a number of seconds. Raises OptionError.

    Example:
        >>> seconds_of("00:12:30")
        750.0
    """
    found = _TIME.fullmatch(text.strip())
    if found is None or (found[2] is not None and (float(found[3]) >= 60 or (found[1] and int(found[2]) >= 60))):
        raise OptionError(f"{text!r} is no time of a stream", hint="write 00:12:30, 12:30, or seconds as in 750")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def time_of(seconds: float) -> str:
    """`HH:MM:SS`.

    Example:
        >>> time_of(750.4)
        '00:12:30'
    """
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Schedule:
    """Questions of a stream.

    always: asked every `every` seconds of the stream, and at its end. once: pairs of seconds and a question, asked with
    the first frame that is not before that; where the stream is over before, at its end.
    """

    def __init__(self, always: Sequence[str], every: float | None, once: Sequence[tuple[float, str]]) -> None:
        self._always, self._every = tuple(always), every
        self._once = sorted(once, key=lambda pair: pair[0])
        self._turn = 0
        self._asked_at: float | None = None

    def begin(self, seconds: float) -> None:
        """The stream goes on from here; what was due before is over."""
        self._turn = int(seconds / self._every) if self._every else 0
        self._once = [pair for pair in self._once if pair[0] > seconds]

    def due(self, seconds: float) -> list[str]:
        """What is to be asked once the frame of that time was seen."""
        questions = [question for at, question in self._once if at <= seconds]
        self._once = self._once[len(questions) :]
        if self._every and int(seconds / self._every) > self._turn:
            self._turn = int(seconds / self._every)
            questions += self._always
            self._asked_at = seconds
        return questions

    def rest(self, seconds: float) -> list[str]:
        """What is to be asked at the end, the frame of that time being the last."""
        questions, self._once = [question for _, question in self._once], []
        return questions if self._asked_at == seconds else [*questions, *self._always]
