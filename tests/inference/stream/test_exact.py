"""With memory for everything and no reduction a stream is the one prompt of all its frames."""

from __future__ import annotations

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


@families
def test_windows_of_any_size_leave_the_same_memory(name):
    with watched(name, window=12) as whole, watched(name, window=1) as single, watched(name, window=7) as some:
        some.flush()
        assert_same(tensors(single), tensors(whole), atol=1e-4)
        assert_same(tensors(some), tensors(whole), atol=1e-4)


@families
@pytest.mark.parametrize("policy", ["window", "uniform"])
def test_policies_that_see_no_windows_leave_the_same_memory(name, policy):
    memory = 150
    with (
        watched(name, window=12, policy=policy, memory=memory) as whole,
        watched(name, window=2, policy=policy, memory=memory) as some,
    ):
        if name != "qwen3_5":  # what a recurrent layer saw of forgotten frames depends on when these were forgotten
            assert {
                layer.about.tolist() == other.about.tolist()
                for layer, other in zip(
                    whole._watched.state.memory.layers.values(), some._watched.state.memory.layers.values(), strict=True
                )
            } == {True}
        assert whole.status.tokens_kept == some.status.tokens_kept <= memory


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
