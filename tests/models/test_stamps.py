"""Stamps in front of the frames of a video, in token ids alone: letters here, whole words where it says so."""

from __future__ import annotations

import re

import pytest

from framefusion.models.stamps import CLOCK, HOURS, NUMBERED, SECONDS, tells_time

SERIES = "You are provided the following series of {} frames from a 0:00:0{} [H:MM:SS] video.\n\nFrame from 00:00:<g"


def ids(text: str, words: bool = False) -> tuple[int, ...]:
    """Each character, or each word between spaces, as a number."""
    return tuple(map(hash, text.split(" "))) if words else tuple(map(ord, text))


@pytest.mark.parametrize(
    ("stamp", "first", "opening", "follows"),
    [
        (NUMBERED, "hiFrame1: <", ">\nFrame2: <", True),
        (NUMBERED, "hiFrame1: <", ">\nFrame12: <", True),
        (NUMBERED, "hiFrame1: <", ">\nFrame1: <", False),  # the next video
        (NUMBERED, "hiFrame1: <", ">then\nFrame1: <", False),
        (NUMBERED, "hi<", ">\n<", False),
        (NUMBERED, "hi<", "><", False),
        (NUMBERED, "Image-1: <", ">\nImage-2: <", False),
        (NUMBERED, "Image-9: <", ">\nImage-10: <", False),
        (NUMBERED, "Picture 1: <", ">\nPicture 2: <", False),
        (CLOCK, SERIES.format(4, 2), ">\nFrame from 00:01:<g", True),
        (CLOCK, SERIES.format(4, 2), ">\nFrame from 00:00:<g", True),  # two frames of one second
        (CLOCK, ">\n" + SERIES.format(4, 2), ">\n" + SERIES.format(4, 2), False),  # the next video
        (SECONDS, "see[0.0 seconds]<", ">[2.0 seconds]<", True),
        (SECONDS, "see[0.0 seconds]<", ">[12.5 seconds]<", True),
        (SECONDS, "see[0.0 seconds]<", ">[0.0 seconds]<", False),
        (SECONDS, "see[0.0 seconds]<", ">\n[0.0 seconds]<", False),
        (HOURS, "see00:00:00.000<video|", ">00:00:02.000<video|", True),
        (HOURS, "see00:00:00.000<video|", ">00:01:12.500<video|", True),
        (HOURS, "see00:00:00.000<video|", ">00:00:00.000<video|", False),
        (HOURS, "see00:00:00.000<video|", ">\n00:00:00.000<video|", False),
        (HOURS, "\n00:00:00.000<video|", ">\n00:00:00.000<video|", False),
    ],
)
def test_a_frame_follows_where_only_the_number_of_its_stamp_is_new(stamp, first, opening, follows):
    assert stamp.follows(ids(first), ids(opening)) is follows


@pytest.mark.parametrize(
    ("first", "opening", "follows"),
    [
        ("user Frame 1 : <", "> \n Frame 2 : <", True),
        ("user Frame 1 : <", "> \n Frame 1 0 : <", True),
        ("user Frame 1 : <", "> \n Frame 1 : <", False),
        ("user Image - 1 : <", "> \n Image - 2 : <", False),
    ],
)
def test_words_may_be_tokens(first, opening, follows):
    assert NUMBERED.follows(ids(first, True), ids(opening, True)) is follows


def test_a_clock_is_known_by_its_colons():
    assert tells_time(ids("at 00:01:<g"), behind=2)
    assert tells_time(ids("at 00 : 01 : < g", True), behind=2)
    assert not tells_time(ids("picture 2:<g"), behind=2)


def test_a_series_of_another_length_is_another_clip():
    def words(text: str) -> tuple[int, ...]:
        return tuple(map(hash, re.findall(r"\w+|\W", text)))

    first, second = (words(">\n" + SERIES.format(*sizes)) for sizes in ((4, 2), (2, 1)))
    assert not CLOCK.follows(first, second)
    assert CLOCK.follows(first, words(">\nFrame from 00:00:<g"))
