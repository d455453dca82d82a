"""Streams side by side, with methods in front and policies behind, and what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

import framefusion as ff
from framefusion.inference.stream.policies.hermes import Hermes
from framefusion.inference.stream.prompt import PromptWriter
from tests.behaviour.support import method, model
from tests.inference.stream.support import (
    FAMILIES,
    FEW,
    QUESTION,
    assert_same,
    clip,
    seconds,
    stream,
    tensors,
    watched,
)
from tests.support.tiny import build_model, moving_clip, processor


@pytest.mark.parametrize(
    ("name", "policy"), [*((name, "infinipot") for name in FAMILIES), *((name, "hermes") for name in FEW)]
)
def test_a_method_in_front_and_a_policy_behind(name, policy):
    memory = {"internvl": 150, "smolvlm": 150}.get(name, 70)
    with watched(name, 12, method=method(name), policy=policy, memory=memory) as video:
        status = video.status
        assert status.tokens_kept <= memory < status.tokens_seen
        assert status.cache_bytes < status.full_cache_bytes
        before = tensors(video)
        assert video.ask(QUESTION, max_new_tokens=4) == video.ask(QUESTION, max_new_tokens=4)
        assert_same(tensors(video), before)


def test_hermes_is_guided_by_the_words_it_is_given(monkeypatch):
    asked, made = [], PromptWriter.question
    monkeypatch.setattr(PromptWriter, "question", lambda self, *given: asked.append(given[1]) or made(self, *given))
    with stream("qwen2_5_vl", policy=Hermes(local="who is here?", overall="what changed?"), memory=70) as video:
        video.feed(clip()[:8], seconds(8))
        assert set(asked) == {"who is here?", "what changed?"}
    with pytest.raises(ff.FrameFusionError, match="local"):
        Hermes(local=3)


@pytest.mark.parametrize("name", FEW)
def test_a_method_reduces_every_window(name):
    with watched(name, 12) as dense, watched(name, 12, method=method(name)) as reduced:
        counts = [layer.count for layer in reduced._watched.state.memory.layers.values()]
        assert min(counts) < dense.status.tokens_kept
        assert reduced.status.tokens_seen == dense.status.tokens_seen == dense.status.tokens_kept


def test_the_model_is_as_it_was_between_windows():
    net = build_model("qwen2_5_vl")
    before = {name: getattr(net.model, name) for name in ("rope_deltas",)}
    with ff.stream(net, processor("qwen2_5_vl"), method=ff.FrameFusion(cost=0.3), window=4) as video:
        video.feed(clip(), seconds())
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())
        assert "generate" not in vars(net) and net.model.rope_deltas is before["rope_deltas"]
        video.ask(QUESTION, max_new_tokens=2)
        assert net.model.rope_deltas is before["rope_deltas"]


def test_two_streams_in_two_threads():
    names, found = ("qwen2_5_vl", "qwen2_5_vl"), {}

    def watch(number):
        with stream(names[number], policy="infinipot", memory=90, window=2) as video:
            for frame in range(12):
                video.feed(moving_clip(12, seed=number)[frame : frame + 1], seconds()[frame : frame + 1])
            found[number] = tensors(video), video.ask(QUESTION, max_new_tokens=4)

    def both(target):
        threads = [threading.Thread(target=target, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    both(watch)
    together = dict(found)
    for number in range(2):
        watch(number)
        assert_same(together[number][0], found[number][0])
        assert together[number][1] == found[number][1]


def test_frames_come_as_arrays_or_pictures_and_in_any_number():
    with watched("qwen2_5_vl", window=6) as whole, stream("qwen2_5_vl", window=6) as bits:
        pictures = [Image.fromarray(picture) for picture in clip()]
        bits.feed(pictures[:1], [0.0])
        bits.feed([], [])
        bits.feed(pictures[1:], seconds()[1:])
        assert_same(tensors(bits), tensors(whole))


@pytest.mark.parametrize("name", FEW)
def test_a_change_of_size_begins_a_window(name):
    small = moving_clip(3, 28, 56)
    with stream(name, window=4) as video:
        video.feed(clip()[:2], seconds(2))
        video.feed(small, seconds(3, 0.5))
        assert video.status.windows == 1 and video.status.frames_seen == 5
        assert video.ask(QUESTION, max_new_tokens=2).seconds == 1.0


def test_frames_that_wait_are_read_once_for_all_questions(monkeypatch):
    read, made = [], PromptWriter.window
    monkeypatch.setattr(PromptWriter, "window", lambda self, *given: read.append(len(given[0])) or made(self, *given))
    with watched("qwen2_5_vl", 6) as video, watched("qwen2_5_vl", 8) as other:
        read.clear()
        first = [video.ask(QUESTION, max_new_tokens=4) for _ in range(3)]
        assert read == [2] and first[0] == first[1] == first[2]
        video.feed(clip()[6:7], seconds()[6:7])
        video.ask(QUESTION, max_new_tokens=1)
        assert read == [2, 3]
        video.feed(clip()[7:8], seconds()[7:8])
        assert read == [2, 3, 4]
        assert video.ask(QUESTION, max_new_tokens=4) == other.ask(QUESTION, max_new_tokens=4)


def test_a_window_that_is_broken_off_waits_again(monkeypatch):
    with stream("qwen2_5_vl") as video, watched("qwen2_5_vl") as whole:
        video.feed(clip()[:2], seconds(2))
        with monkeypatch.context() as patch:
            patch.setattr(type(video._watching), "after", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                video.feed(clip()[2:4], seconds(12)[2:4])
        assert video.status.frames_seen == 4 and video.status.windows == 0
        video.feed(clip()[4:], seconds()[4:])
        assert_same(tensors(video), tensors(whole))


def test_bytes_are_a_budget_too():
    with watched("qwen2_5_vl", policy="window", memory="100KiB") as video:
        assert 80 * 1024 < video.status.cache_bytes <= 100 * 1024


@pytest.mark.parametrize(
    "options",
    [
        {"memory": "much"}, {"memory": 0}, {"memory": "0 MiB"}, {"memory": True}, {"policy": "best"}, {"window": 0},
        {"context": 0}, {"span": 1},
        {"method": "framefusion"},
    ],
    ids=str,
)  # fmt: skip
def test_options_are_checked(options):
    with pytest.raises(ff.FrameFusionError) as error:
        stream("qwen2_5_vl", **options)
    assert error.value.hint


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        (clip()[:2], [0.0]), (clip()[:2], [1.0, 0.5]), (clip()[:1], [-1.0]), (clip()[:1], [float("nan")]),
        (clip()[:1], ["soon"]), (clip()[:1].astype(np.float32), [0.0]), (clip()[:1, ..., :1], [0.0]),
    ],
)  # fmt: skip
def test_frames_and_times_are_checked(frames, times):
    with stream("qwen2_5_vl") as video:
        with pytest.raises(ff.FrameFusionError):
            video.feed(frames, times)
        assert video.status.frames_seen == 0


def test_what_cannot_be_asked():
    with stream("qwen2_5_vl") as video:
        with pytest.raises(ff.FrameFusionError, match="nothing was fed"):
            video.ask(QUESTION)
        video.feed(clip()[:1], [3.0])
        with pytest.raises(ff.FrameFusionError, match="behind 3"):
            video.feed(clip()[:1], [2.0])
        with pytest.raises(ff.FrameFusionError, match="num_beams"):
            video.ask(QUESTION, num_beams=2)
    with pytest.raises(ff.FrameFusionError, match="closed"):
        video.feed(clip(), seconds())


def test_memory_below_the_front_of_the_prompt():
    with pytest.raises(ff.FrameFusionError, match="in front of the first frame"):
        watched("qwen2_5_vl", memory=5, policy="window")


@pytest.mark.parametrize("name", ["gemma3"])
def test_models_that_cannot_remember(name):
    with pytest.raises(ff.FrameFusionError, match="cannot remember a stream"):
        ff.stream(model(name), processor(name))


def test_frames_with_unequal_numbers_of_tokens():
    with pytest.raises(ff.FrameFusionError, match="leaves out tokens"):
        watched("video_llama_3")


def test_a_tape_of_another_model(tmp_path):
    with watched("qwen2_5_vl") as video:
        video.save(tmp_path / "tape.safetensors")
    with pytest.raises(ff.FrameFusionError, match="another model"):
        stream("qwen3_vl", resume=tmp_path / "tape.safetensors")
    (tmp_path / "other").write_bytes(b"nothing")
    for path in ("other", "missing"):
        with pytest.raises(ff.FrameFusionError, match="cannot be resumed"):
            stream("qwen2_5_vl", resume=tmp_path / path)
    with watched("qwen2_5_vl") as video, pytest.raises(ff.FrameFusionError, match="did not write"):
        video.save(tmp_path / "other")


@torch.no_grad()
def test_uniform_keeps_old_frames_and_the_window_new_ones():
    with (
        watched("qwen2_5_vl", policy="uniform", memory=90, window=2) as uniform,
        watched("qwen2_5_vl", policy="window", memory=90, window=2) as window,
    ):
        frames = [video._watched.state.memory.layers[0].about[0, :, 0].unique().tolist() for video in (uniform, window)]
    assert frames[0][0] == 0 and len(frames[0]) >= 3
    assert frames[1][-1] == 5
