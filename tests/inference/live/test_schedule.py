"""When questions are asked."""

from __future__ import annotations

import pytest

from framefusion.core.errors import OptionError
from framefusion.inference.live.schedule import Schedule, seconds_of, time_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:12:30", 750),
        ("12:30", 750),
        ("750", 750),
        ("0.5", 0.5),
        (" 1:02:03.5 ", 3723.5),
        ("90:00", 5400),
        ("26:00:00", 93600),
    ],
)
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1:2:3:4", "0:75", "1:60:00", "12:", "1e3", "nan", "inf"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(OptionError):
        seconds_of(text)


def test_times_are_written():
    assert [time_of(seconds) for seconds in (0, 59.9, 3723, 360000)] == [
        "00:00:00",
        "00:00:59",
        "01:02:03",
        "100:00:00",
    ]


def asked(schedule, times, begin=-1.0):
    """Questions by the time of the frame after which they are asked, those of the end under None."""
    schedule.begin(begin)
    found = {time: questions for time in times if (questions := schedule.due(time))}
    return found | ({None: rest} if (rest := schedule.rest(times[-1])) else {})


def test_questions_are_asked_at_the_end():
    assert asked(Schedule(["who?", "what?"], None, []), [0.0, 1.0]) == {None: ["who?", "what?"]}


def test_questions_are_asked_again_and_again():
    times = [0.0, 1.0, 2.0, 3.5, 4.0, 9.0, 9.5]
    assert asked(Schedule(["who?"], 2, []), times) == {2.0: ["who?"], 4.0: ["who?"], 9.0: ["who?"], None: ["who?"]}


def test_nothing_is_asked_twice_of_the_last_frame():
    assert asked(Schedule(["who?"], 2, []), [0.0, 1.0, 2.0]) == {2.0: ["who?"]}


def test_a_question_of_a_moment_is_asked_once_with_the_first_frame_behind_it():
    schedule = Schedule([], None, [(5.0, "late?"), (1.5, "early?"), (99.0, "after?")])
    assert asked(schedule, [0.0, 1.0, 2.0, 3.0, 7.0]) == {2.0: ["early?"], 7.0: ["late?"], None: ["after?"]}


def test_a_stream_that_goes_on_asks_from_where_it_was():
    schedule = Schedule(["who?"], 10, [(5.0, "over?"), (25.0, "now?")])
    assert asked(schedule, [22.0, 29.0, 30.0, 31.0], begin=21.0) == {29.0: ["now?"], 30.0: ["who?"], None: ["who?"]}
