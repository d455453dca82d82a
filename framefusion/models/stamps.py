"""What tells the frames of a video from still pictures where nothing else does: the stamp written before each frame.

Only token ids are known here, not the words behind them. A stamp is text that repeats from frame to frame but for a
number or a time; the first frame of a clip bears it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Stamp:
    """How a family stamps the frames of a video.

    closing: how many tokens close a frame and part it from the next; words: how many then stand before the number; one
    count for each way tokenizers may cut them. digits: most tokens of a number; at_first: of the first frame's.
    behind: most tokens between the number and the frame. repeats: neighbouring frames may bear the same number.
    header: fewest tokens of the text in front of a clip, which its first stamp follows.
    """

    closing: Sequence[int]
    words: Sequence[int]
    digits: int
    at_first: int
    behind: int = 64
    repeats: bool = False
    header: int = 0

    def follows(self, first: Ids, opening: Ids) -> bool:
        """Whether a frame behind the text `opening` continues the clip whose first frame stands behind `first`."""
        return any(self._continues(first, opening[closing:]) for closing in self.closing if closing < len(opening))

    def _continues(self, first: Ids, text: Ids) -> bool:
        if len(first) - len(text) < self.header:
            return False  # the header stands here again
        if text == first[-len(text) :]:
            return self.repeats
        return any(self._fits(first, text, words, own) for words in self.words for own in range(1, self.digits + 1))

    def _fits(self, first: Ids, text: Ids, words: int, own: int) -> bool:
        before, behind = text[:words], text[words + own :]
        if len(before) < words or not 0 < len(behind) <= self.behind or first[-len(behind) :] != behind:
            return False
        head = first[: len(first) - len(behind)]
        return any(head[: len(head) - number][-words:] == before for number in range(1, self.at_first + 1))


NUMBERED = Stamp(closing=(2,), words=(1, 5), digits=4, at_first=1, behind=4)
"""`</img>\nFrame2: <img>`: the word is one token, or five where every byte is one."""

CLOCK = Stamp(closing=(2,), words=range(1, 13), digits=6, at_first=6, repeats=True, header=12)
"""`<end>\nFrame from 00:01:<start>`."""

SECONDS = Stamp(closing=(1, 18), words=(1, 2, 3), digits=6, at_first=6)
"""`<end>]<]2.0 seconds[>[<start>`; the mark that closes a frame is one token, or eighteen bytes."""

HOURS = Stamp(closing=(1, 13), words=(1,), digits=12, at_first=12)
"""`<|media_end|>00:00:02.000<begin>video<content>`: the first digit of the hour is the same in all."""


def tells_time(opening: Ids, behind: int) -> bool:
    """Whether the text ends in `MM:SS:` before its last `behind` tokens: two colons, a number apart."""
    text = opening[: len(opening) - behind]
    return any(len(text) > apart and text[-1] == text[-1 - apart] for apart in (2, 3))
