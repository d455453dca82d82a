import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefusion.core.errors import OptionError
from framefusion.inference.video import sample_indices
from framefusion.inference.video.sampling import sample_times

totals = st.integers(0, 3000)
caps = st.none() | st.integers(1, 400)
rates = st.floats(0.01, 500)


@given(totals, caps, rates, st.none() | rates)
def test_indices_increase_stay_inside_and_respect_the_cap(total, frames, source_fps, fps):
    chosen = sample_indices(total, frames, source_fps, fps)
    assert all(later > sooner for sooner, later in pairwise(chosen))
    assert all(type(index) is int and 0 <= index < total for index in chosen)
    assert bool(chosen) == bool(total)
    assert frames is None or len(chosen) <= frames
    assert not chosen or chosen[0] == 0


@given(st.integers(1, 3000), st.integers(1, 400), rates)
def test_a_count_is_met_evenly_from_first_to_last(total, frames, source_fps):
    chosen = sample_indices(total, frames, source_fps, None)
    assert len(chosen) == min(total, frames)
    if len(chosen) > 1:
        assert chosen[-1] == total - 1
        assert np.abs(chosen - np.linspace(0, total - 1, len(chosen))).max() <= 0.5 + 1e-3


@given(st.integers(1, 3000), st.floats(1, 120), st.floats(0.05, 120))
def test_a_rate_takes_each_frame_near_its_instant(total, source_fps, fps):
    chosen = sample_indices(total, None, source_fps, fps)
    if fps >= source_fps:
        assert chosen == list(range(total))
        return
    instants = np.rint(np.array(chosen) / source_fps * fps) / fps
    assert np.abs(np.array(chosen) / source_fps - instants).max() <= 1 / source_fps
    assert abs(len(chosen) - total / source_fps * fps) <= 1.5


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=200), caps, st.none() | st.floats(0.05, 120))
def test_uneven_times_keep_the_same_promises(gaps, frames, fps):
    times = np.cumsum(gaps)
    chosen = sample_times(times, frames, fps)
    assert chosen[0] == 0 and chosen == sorted(set(chosen)) and chosen[-1] < len(times)
    if fps is None:
        assert len(chosen) == min(frames or len(times), len(times))


def test_uneven_times_are_sampled_by_time_not_by_count():
    burst_then_slow = np.concatenate([np.arange(100) / 100, np.arange(1, 10)])
    assert sample_times(burst_then_slow, 10, None) == [0, 100, 101, 102, 103, 104, 105, 106, 107, 108]
    assert sample_times(burst_then_slow, None, 1.0) == [0, 100, 101, 102, 103, 104, 105, 106, 107, 108]


def test_plain_cases():
    assert sample_indices(10, 4, 30, None) == [0, 3, 6, 9]
    assert sample_indices(10, 1, 30, None) == [0]
    assert sample_indices(3, 64, 30, None) == [0, 1, 2]
    assert sample_indices(5, None, 30, None) == [0, 1, 2, 3, 4]
    assert sample_indices(0, 4, 30, 2) == []
    assert sample_indices(90, None, 30, 2) == [0, 15, 30, 45, 60, 75]
    assert sample_indices(90, 4, 30, 2) == [0, 30, 59, 89]
    assert sample_indices(90, 6, 30, 2) == [0, 15, 30, 45, 60, 75]
    assert sample_indices(np.int64(10), np.int32(2), np.float32(30), None) == [0, 9]


def test_times_rounded_to_milliseconds_lose_no_frame():
    times = np.round(np.arange(3000) / 29.97, 3)
    assert sample_times(times, None, 29.97) == list(range(3000))


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 4, 30, None),
        (2.5, 4, 30, None),
        (10**12, 4, 30, None),
        (True, 4, 30, None),
        (10, 0, 30, None),
        (10, -3, 30, None),
        (10, 1.5, 30, None),
        (10, "4", 30, None),
        (10, True, 30, None),
        (10, 4, 0, None),
        (10, 4, math.nan, None),
        (10, 4, None, None),
        (10, 4, 30, 0),
        (10, 4, 30, -1.0),
        (10, 4, 30, math.inf),
        (10, 4, 30, math.nan),
        (10, 4, 30, "2"),
        (10, 4, 30, True),
    ],
)
def test_invalid_numbers_are_refused(arguments):
    with pytest.raises(OptionError):
        sample_indices(*arguments)
