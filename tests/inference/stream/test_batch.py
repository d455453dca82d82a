"""A batch of streams: each is what it is alone."""

from __future__ import annotations

import pytest

import framefusion as ff
from framefusion.inference.stream.batch import StreamBatch
from tests.behaviour.support import method, model
from tests.inference.stream.support import FAMILIES, QUESTION, assert_same, clip, seconds, stream, tensors
from tests.support.tiny import moving_clip, processor

QUESTIONS = (QUESTION, "and there?")


def batch(name, count=2, **options):
    return StreamBatch(model(name), processor(name), count, window=4, **options)


def alone(name, number, frames, options):
    """A stream of that many frames by itself, and its answer."""
    with stream(name, **options) as video:
        video.feed(clip(12, number)[:frames], seconds(frames))
        return tensors(video), video.ask(QUESTIONS[number], max_new_tokens=4)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("policy", ["infinipot", "none"])
def test_every_row_is_the_stream_alone(name, policy):
    options = {"policy": policy, "memory": {"internvl": 150, "smolvlm": 150}.get(name, 70)}
    frames = 12, 6
    with batch(name, **options) as streams:
        streams.feed([clip(12, 0)[:4], clip(12, 1)[:6]], [seconds(4), seconds(6)])
        streams.feed([clip(12, 0)[4:], []], [seconds(12)[4:], []])
        answers = streams.ask(QUESTIONS, max_new_tokens=4)
        for number, video in enumerate(streams.streams):
            held, answer = alone(name, number, frames[number], options)
            assert_same(tensors(video), held, atol=1e-4)
            assert answers[number] == answer


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_5", "llava_onevision"])
def test_a_method_that_keeps_unequal_numbers(name):
    options = {"policy": "none", "memory": 1000, "method": method(name)}
    clips = moving_clip(8, seed=3, change=0.05), moving_clip(8, seed=4, change=0.9)
    with batch(name, **options) as streams:
        streams.feed(clips, [seconds(8)] * 2)
        answers = streams.ask(QUESTION, max_new_tokens=4)
        for number, video in enumerate(streams.streams):
            with stream(name, **options) as single:
                single.feed(clips[number], seconds(8))
                assert_same(tensors(video), tensors(single), atol=1e-4)
                assert single.ask(QUESTION, max_new_tokens=4) == answers[number]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "smolvlm"])
def test_questions_of_some_lengths_are_asked_in_groups_of_some_sizes(name):
    asked = ["what happens here?", "why?", "what is here?", "and?", "so?"]
    with batch(name, 5, policy="none", memory=1000) as streams:
        streams.feed([clip(4, number) for number in range(5)], [seconds(4)] * 5)
        answers = streams.ask(asked, max_new_tokens=4)
        for question, video, answer in zip(asked, streams.streams, answers, strict=True):
            assert video.ask(question, max_new_tokens=4) == answer


def test_one_entry_per_stream():
    with batch("qwen2_5_vl", policy="none") as streams:
        with pytest.raises(ff.FrameFusionError, match="2 streams got frames for 1"):
            streams.feed([clip()], [seconds(), seconds()])
        streams.feed([clip()[:1], clip()[:1]], [[0.0], [0.0]])
        streams.flush()
        assert [video.status.windows for video in streams.streams] == [1, 1]
        with pytest.raises(ff.FrameFusionError, match="questions"):
            streams.ask(["one"])
