"""One time line for a source whose stamps may start anew, be missing or come in the wrong order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from statistics import median

from .items import Item, Joint, Notice, Raw, Shown

RESTART = 1.0
"""Seconds by which stamps fall back at least where a clock was set back; less is a frame that comes out of order."""
TRUSTED = 5.0
"""Seconds a clock may have gone on behind a joint, beside those that have passed on the wall clock."""
HOLD = 0.25
"""Seconds that a frame waits for earlier ones."""
MOST_HELD = 8
"""Frames that wait at once."""
JUST_AFTER = 1e-3
"""Seconds that a late frame is put behind the last one that was given out."""
MOST_SERVED = 100_000
"""Instants remembered, so that an endless stream does not need endless memory."""
RECENT = 65
"""Distances between frames of which the usual one is the median."""
USUAL = 1 / 25
"""Seconds between two frames as long as a source has told none."""


class Clock:
    """Seconds since the first frame, from stamps. step: the usual distance of two frames."""

    def __init__(self) -> None:
        self.step, self.offset, self.top = USUAL, 0.0, -1.0
        self.started = False
        self.joint: Joint | None = None
        self._fallen: Shown | None = None

    def put_right(self, items: Iterable[Raw]) -> Iterator[Item]:
        """Gives every frame its `due`. A frame whose stamp fell back is judged by the one after it."""
        for item in items:
            if isinstance(item, Notice):
                yield item
            elif isinstance(item, Joint):
                yield from self._set_back()
                self.joint = item
            else:
                yield from self._take(item)
        yield from self._set_back()

    def _take(self, shown: Shown) -> Iterator[Item]:
        stamp = shown.stamp
        if not self.started:
            self.offset = -stamp
            self.started, self.joint = True, None
            yield self._at(shown, 0.0)
            return
        if self.joint is not None:
            self._join(stamp, self.joint.gap)
        value = stamp + self.offset
        if self._fallen is not None:
            if value > self.top:  # it goes on where it was, so the one before came late
                late, self._fallen = self._fallen, None
                late.due = late.stamp + self.offset
                yield late
            else:
                yield from self._set_back()
                value = stamp + self.offset
        if value <= self.top - RESTART:
            self._fallen = shown
        else:
            yield self._at(shown, value)

    def _join(self, stamp: float, gap: float) -> None:
        """The first stamp behind a joint: believed where it fits the time that has passed."""
        on = stamp + self.offset - self.top
        if not 0 < on <= gap + TRUSTED:
            self.offset += max(gap, self.step) - on
        self.joint = None

    def _set_back(self) -> Iterator[Item]:
        """The frame that fell back was the first of a clock that was set back."""
        if self._fallen is not None:
            first, self._fallen = self._fallen, None
            self.offset = self.top + self.step - first.stamp
            yield Notice("restarted", "the clock of the source was set back; seconds go on from where they were")
            yield self._at(first, self.top + self.step)

    def _at(self, shown: Shown, value: float) -> Shown:
        if self.top >= 0 and value > self.top:
            # Of a variable rate the shorter distances, so that nothing is put far away.
            self.step = min(value - self.top, 2 * self.step) if self.step != USUAL else value - self.top
        shown.due, self.top = value, max(self.top, value)
        return shown


def in_order(items: Iterable[Item], hold: float = HOLD) -> Iterator[Item]:
    """Frames by time, their `seconds` strictly increasing. A frame waits until one that is `hold` later has come.

    One that comes later than that is put just behind the last one that was given out, and told.
    """
    held: list[Shown] = []
    last = [-JUST_AFTER]

    def release(count: int) -> Iterator[Item]:
        for shown in held[:count]:
            if shown.due > last[0]:
                shown.seconds = shown.due
            else:
                yield Notice("late", f"the frame of {shown.due:.2f} s came after that of {last[0]:.2f} s")
                shown.seconds = last[0] + JUST_AFTER
            last[0] = shown.seconds
            yield shown
        del held[:count]

    for item in items:
        if isinstance(item, Notice):
            yield item
            continue
        if held and item.due < held[-1].due and item.due > last[0]:
            yield Notice("late", f"the frame of {item.due:.2f} s came after that of {held[-1].due:.2f} s")
        held.append(item)
        held.sort(key=_due)
        ready = sum(shown.due <= held[-1].due - hold for shown in held) if hold else len(held)
        yield from release(max(ready, len(held) - MOST_HELD))
    yield from release(len(held))


def _due(shown: Shown) -> float:
    return shown.due


def at_rate(items: Iterable[Item], fps: float) -> Iterator[Item]:
    """The first frame at or after each multiple of 1/fps seconds; late ones where their instant had none."""
    served: set[int] = set()
    steps, last = deque([1 / fps], RECENT), 0.0
    for item in items:
        if isinstance(item, Notice):
            yield item
            continue
        if item.due > last:
            steps.append(item.due - last)
            last = item.due
        # Containers round times, so a frame may come a little before the instant it is meant for.
        slot = int((item.due + 0.25 * min(median(steps), 1 / fps)) * fps)
        if slot not in served:
            if len(served) >= MOST_SERVED:
                served.clear()
            served.add(slot)
            yield item
