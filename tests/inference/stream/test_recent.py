"""The newest frames wait as pictures, and questions read them anew without looking at the memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.inference.stream.batch import StreamBatch
from framefusion.inference.stream.memory import FRAME
from framefusion.inference.stream.packed import plain
from tests.behaviour.support import model
from tests.inference.stream.support import (
    FAMILIES,
    QUESTION,
    assert_same,
    clip,
    dense_logits,
    seconds,
    stream,
    tensors,
    watched,
)
from tests.support.tiny import moving_clip, processor

MEMORY = {"internvl": 150, "smolvlm": 150}
# A recurrent state holds the past whatever a window looks at.
WITHOUT_STATES = [name for name in FAMILIES if name != "qwen3_5"]
families = pytest.mark.parametrize("name", FAMILIES)


def present(video):
    """The stream as a question finds it."""
    return video._watched.present(video._watching.after, video._watching.alone)


def recent(video):
    """Keys and values of the entries of recent steps, layer by layer."""
    state = present(video)
    found = {}
    for number, layer in state.memory.layers.items():
        newest = layer.about[0, :, FRAME] >= state.steps - state.recent
        found |= {f"{number}.{part}": plain(getattr(layer, part))[:, newest] for part in ("keys", "values")}
    return found


@families
def test_frames_that_are_all_recent_are_the_one_prompt(name):
    with watched(name, recent=12) as video:
        assert video.status.windows == 0
        _, answer = dense_logits(name)
        assert video.ask(QUESTION, max_new_tokens=8).text == answer


@pytest.mark.parametrize("name", WITHOUT_STATES)
def test_recent_frames_are_read_the_same_whatever_was_before(name):
    def after(old, **options):
        pictures = np.concatenate([moving_clip(8, seed=old), clip(4, seed=5)])
        with stream(name, **options) as video:
            video.feed(pictures, seconds(12))
            return recent(video)

    assert_same(after(1, recent=4), after(2, recent=4), atol=1e-5)
    with pytest.raises(AssertionError):
        assert_same(after(1, recent=4), after(2, recent=8), atol=1e-5)


@families
@pytest.mark.parametrize("policy", ["infinipot", "retrieve"])
def test_the_memory_stays_and_recent_frames_come_on_top_of_it(name, policy):
    memory = MEMORY.get(name, 70)
    with watched(name, 12, policy=policy, memory=memory, recent=4) as video:
        with watched(name, 8, policy=policy, memory=memory) as before:
            assert_same(tensors(video), tensors(before))
        held, answer = tensors(video), video.ask(QUESTION, max_new_tokens=4)
        assert answer == video.ask(QUESTION, max_new_tokens=4)
        assert_same(tensors(video), held)
        state = present(video)
        newest = state.memory.since(state.lasting)
        assert newest > 0 and state.recent == state.steps - video._watched.state.steps
        assert newest < answer.tokens_read <= memory + newest
        assert video.status.frames_seen == 12 and len(video._watched.waiting) == 4


def test_what_a_question_picks_leaves_recent_frames_in(monkeypatch):
    with watched("qwen2_5_vl", 12, policy="retrieve", memory=30, recent=4) as video:
        read, asked = [], type(video._watching)._asked
        monkeypatch.setattr(type(video._watching), "_asked", lambda *given: read.append(given[1][0]) or asked(*given))
        video.ask(QUESTION, max_new_tokens=2)
        state = present(video)
        frames = read[-1].memory.layers[0].about[0, :, FRAME]
        assert int((frames >= state.lasting).sum()) == state.memory.since(state.lasting) > 0
        assert len(frames) == read[-1].memory.count < state.memory.count


@families
def test_save_resume_and_flush(name, tmp_path):
    options = {"policy": "infinipot", "memory": MEMORY.get(name, 70), "recent": 4}
    with watched(name, 11, **options) as video, stream(name, **options) as plainly:
        video.save(tmp_path / "tape")
        with stream(name, **options, resume=tmp_path / "tape") as resumed:
            assert resumed.ask(QUESTION, max_new_tokens=4) == video.ask(QUESTION, max_new_tokens=4)
        video.flush()
        assert len(video._watched.waiting) == 0 and present(video).recent == 0
        plainly.feed(clip(11), seconds(11))
        plainly.flush()
        assert_same(tensors(video), tensors(plainly))
        with watched(name, 11, **{**options, "recent": 0}) as without:
            without.flush()
            assert_same(tensors(video), tensors(without))


def test_time_steps_stay_whole():
    with watched("qwen2_5_vl", 7, recent=3) as video:
        earlier, newest = video._watched.waiting.split()
        assert (len(earlier), len(newest)) == (2, 5)
        assert present(video).recent == 3


def test_frames_of_another_size_end_what_waits():
    with watched("qwen2_5_vl", 6, recent=4) as video:
        video.feed(clip(2).repeat(2, axis=1), (1.5, 1.75))
        assert video.status.windows == 2 and len(video._watched.waiting) == 2
        assert video.ask(QUESTION, max_new_tokens=2).seconds == 1.75


def test_a_window_that_could_not_be_read_waits_in_front(monkeypatch):
    with stream("qwen2_5_vl", recent=4) as video:
        video.feed(clip(6), seconds(6))
        with monkeypatch.context() as broken:
            broken.setattr(type(video._watching), "all_after", lambda *given: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                video.feed(clip(8)[6:], seconds(8)[6:])
        assert video._watched.waiting.waiting.seconds == seconds(8)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_5", "llava_onevision"])
def test_rows_of_a_batch_are_streams_alone(name):
    options = {"policy": "infinipot", "memory": 70, "recent": 4}
    with StreamBatch(model(name), processor(name), 2, window=4, **options) as streams:
        streams.feed([clip(12, 0), clip(12, 1)[:10]], [seconds(12), seconds(10)])
        answers = streams.ask(QUESTION, max_new_tokens=4)
        streams.flush()
        for number, (video, frames) in enumerate(zip(streams.streams, (12, 10), strict=True)):
            with stream(name, **options) as single:
                single.feed(clip(12, number)[:frames], seconds(frames))
                assert single.ask(QUESTION, max_new_tokens=4) == answers[number]
                single.flush()
                assert_same(tensors(video), tensors(single), atol=1e-4)


def test_positions_of_the_memory_and_of_recent_frames():
    with watched("qwen2_5_vl", 16, recent=4, span=2) as video:
        state = present(video)
        drawn = video._watching._drawn_together(state)
        time = drawn.memory.layers[0].about[0, :, 2]
        newest = drawn.memory.layers[0].since(state.lasting)
        assert len(time[newest].unique()) == state.recent == 2
        assert len(time[~newest][state.memory.protected :].unique()) <= 2 < state.lasting
        assert torch.equal(time[newest].unique(), time.unique()[-2:])


@pytest.mark.parametrize("given", [-1, 1.5, "4", None, True])
def test_what_is_no_number_of_frames_is_refused(given):
    with pytest.raises(OptionError, match="recent"):
        stream("qwen2_5_vl", recent=given)
