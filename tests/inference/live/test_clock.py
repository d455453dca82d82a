"""From the stamps of a source to seconds: by hand-made stamps."""

from __future__ import annotations

import numpy as np
import pytest

from framefusion.inference.live.clock import Clock, at_rate, in_order
from framefusion.inference.live.items import Joint, Notice, Shown
from framefusion.inference.video.sampling import sample_times


def run(stamps, fps=None):
    """Numbers of the frames that come out, their seconds, and kinds of notices. A text stands for a gap of that many
    seconds between two connections."""
    raw = [Joint(float(one)) if isinstance(one, str) else Shown(number, one) for number, one in enumerate(stamps)]
    items = in_order(Clock().put_right(raw))
    items = list(items if fps is None else at_rate(items, fps))
    shown = [item for item in items if isinstance(item, Shown)]
    return (
        [item.picture for item in shown],
        [round(item.seconds, 6) for item in shown],
        [item.kind for item in items if isinstance(item, Notice)],
    )


def test_stamps_in_order_count_from_the_first():
    assert run([5.0, 5.5, 7.0]) == ([0, 1, 2], [0.0, 0.5, 2.0], [])


def test_frames_that_come_out_of_order_are_sorted():
    numbers, seconds, kinds = run([0.0, 0.08, 0.04, 0.12, 0.5])
    assert (numbers, seconds) == ([0, 2, 1, 3, 4], [0.0, 0.04, 0.08, 0.12, 0.5]) and kinds == ["late"]


@pytest.mark.parametrize("late", [0.3, 5.0])
def test_a_frame_that_comes_very_late_is_put_behind_those_given_out(late):
    stamps = [number / 10 for number in range(100)]
    numbers, seconds, kinds = run([*stamps, stamps[-1] - late - 0.01, 10.0, 10.1])
    assert sorted(numbers) == list(range(103)) and kinds == ["late"]
    assert all(np.diff(seconds) > 0)
    assert seconds[-2:] == [10.0, 10.1]


def test_two_frames_of_one_time_are_both_kept():
    numbers, seconds, kinds = run([0.0, 1.0, 1.0, 2.0])
    assert numbers == [0, 1, 2, 3] and kinds == ["late"] and all(np.diff(seconds) > 0)


@pytest.mark.parametrize("new", [0.0, 3.0])
def test_a_clock_that_is_set_back_goes_on(new):
    numbers, seconds, kinds = run([100.0, 100.5, 101.0, 101.5, 102.0, new, new + 0.5, new + 1.0])
    assert numbers == list(range(8)) and kinds == ["restarted"]
    assert seconds == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def test_a_clock_that_is_set_back_by_the_last_frame_goes_on():
    assert run([9.0, 9.5, 10.0, 0.0]) == ([0, 1, 2, 3], [0.0, 0.5, 1.0, 1.5], ["restarted"])


def test_a_pause_between_frames_is_believed():
    assert run([0.0, 300.0, 600.0])[1] == [0.0, 300.0, 600.0]


@pytest.mark.parametrize("first", [0.0, 50.0, 9_999.0], ids=["from nought", "from before", "from far ahead"])
def test_behind_a_lost_connection_the_wall_clock_goes_on(first):
    numbers, seconds, kinds = run([70.0, 70.5, 71.0, "8", first, first + 0.5])
    assert [number for number in numbers if number != 3] == [0, 1, 2, 4, 5] and not kinds
    assert seconds == [0.0, 0.5, 1.0, 9.0, 9.5]


def test_behind_a_lost_connection_a_clock_that_went_on_is_believed():
    assert run([70.0, 70.5, 71.0, "8", 77.5, 78.0])[1] == [0.0, 0.5, 1.0, 7.5, 8.0]


@pytest.mark.parametrize("rate", [29.97, 10.0, 8.0, 2.0, 0.5])
@pytest.mark.parametrize("fps", [0.3, 1.0, 7.0, 60.0])
def test_the_frames_taken_are_those_of_a_file(rate, fps):
    times = np.round(np.arange(200) / rate, 3)
    assert run(times.tolist(), fps)[0] == sample_times(times, None, fps)


def test_a_late_frame_is_taken_where_its_instant_had_none():
    numbers, _, _ = run([0.0, 1.0, 3.0, 4.0, 2.0, 5.0], fps=1.0)
    assert sorted(numbers) == list(range(6))
