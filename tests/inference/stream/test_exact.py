"""With memory for everything and no reduction a stream is the one prompt of all its frames."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import torch

from tests.inference.stream.support import (
    FAMILIES,
    QUESTION,
    assert_same,
    clip,
    dense_logits,
    seconds,
    stream,
    stream_logits,
    tensors,
    watched,
)

families = pytest.mark.parametrize("name", FAMILIES)


@families
def test_a_stream_is_the_one_prompt(name):
    logits, answer = dense_logits(name)
    with watched(name) as video:
        found = stream_logits(video)
        torch.testing.assert_close(found, logits[-len(found) :], atol=1e-4, rtol=1e-4)
        assert video.ask(QUESTION, max_new_tokens=8).text == answer


@contextmanager
def of_windows(name, **options):
    """The same 66 frames in windows of 1, 7 and 64, all of them read."""
    with ExitStack() as stack:
        streams = [stack.enter_context(watched(name, 66, window=window, **options)) for window in (1, 7, 64)]
        for video in streams:
            video.flush()
        yield streams


@pytest.mark.slow
@families
def test_windows_of_any_size_leave_the_same_memory(name):
    with of_windows(name) as (single, some, whole):
        assert_same(tensors(single), tensors(whole), atol=1e-4)
        assert_same(tensors(some), tensors(whole), atol=1e-4)


@pytest.mark.slow
@families
@pytest.mark.parametrize("policy", ["window", "uniform"])
def test_policies_that_see_no_windows_leave_the_same_tokens(name, policy):
    with of_windows(name, policy=policy, memory=150) as streams:
        # Frame and place of each; positions are made contiguous whenever they reach the model's limit.
        layers = [video._watched.state.memory.layers.values() for video in streams]
        held = [[layer.about[..., :2].tolist() for layer in one] for one in layers]
        assert held[0] == held[1] == held[2]
        assert all(video.status.tokens_kept <= 150 for video in streams)


@families
def test_a_question_changes_nothing(name):
    with watched(name, 10, policy="window", memory=130) as video:
        before = tensors(video)
        answers = {video.ask(QUESTION, max_new_tokens=6).text for _ in range(2)}
        assert len(answers) == 1
        assert_same(tensors(video), before)
        video.feed(clip()[10:], seconds()[10:])
        with watched(name, 12, policy="window", memory=130) as other:
            assert_same(tensors(video), tensors(other))


@families
def test_a_question_sees_the_frames_that_wait(name):
    with watched(name, 6, window=4) as video, watched(name, 6, window=2) as read:
        assert video.status.windows == 1
        assert video.ask(QUESTION, max_new_tokens=6).text == read.ask(QUESTION, max_new_tokens=6).text


@families
def test_a_tape_goes_on(name, tmp_path):
    tape = tmp_path / "tape.safetensors"
    with watched(name, 10, policy="window", memory=130) as video:
        video.save(tape)
        video.save(tape)
        with stream(name, policy="window", memory=130, resume=tape) as other:
            assert_same(tensors(other), tensors(video))
            assert other.ask(QUESTION, max_new_tokens=6) == video.ask(QUESTION, max_new_tokens=6)
            for one in (video, other):
                one.feed(clip()[10:], seconds()[10:])
            assert_same(tensors(other), tensors(video))
            assert other.status.to_dict() | {"last_window_seconds": 0} == video.status.to_dict() | {
                "last_window_seconds": 0
            }
