"""Positions near the model's limit: made contiguous by one rotation, which loses next to nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import framefusion as ff
from framefusion.engine.model.parts import find_parts
from framefusion.inference.stream.memory import POSITION
from framefusion.inference.stream.positions import Planes
from framefusion.inference.stream.rotary import Rotary, contiguous
from tests.behaviour.support import model
from tests.inference.stream.support import (
    FAMILIES,
    QUESTION,
    assert_same,
    clip,
    seconds,
    stream,
    stream_logits,
    tensors,
)
from tests.support.tiny import build_model, processor

OTHERS = ("hermes", "window", "uniform", "retrieve")
families = pytest.mark.parametrize("name", FAMILIES)


def rotary_of(net):
    parts = find_parts(net)
    return Rotary(parts, Planes(parts).count), Planes(parts).count


def rotated(net, keys, positions):
    """Keys (H, S, d) as the model itself rotates them at positions (S, P), with its own dtype of tables."""
    rotary, planes = rotary_of(net)
    at = positions.T[:, None]
    cosine, sine = rotary._module(torch.empty(0, dtype=net.dtype), at if planes > 1 else at[0])
    return rotary._apply(keys[None], keys[None], cosine, sine)[1][0]


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_moved_key_is_the_key_rotated_there(name, dtype):
    """Within two steps of its type, relative to the key's length, however far and however often it was moved."""
    net = model(name) if dtype == torch.float32 else build_model(name, dtype=dtype)
    rotary, planes = rotary_of(net)
    draw = torch.Generator().manual_seed(0)
    width = getattr(net.config.get_text_config(), "head_dim", None) or 16
    keys = torch.randn(2, 50, width, generator=draw).to(dtype)
    places = [torch.randint(0, high, (50, planes), generator=draw) for high in (4000, 90, 4000, 20)]
    number = next(n for n, block in enumerate(find_parts(net).blocks) if block.attention is not None)
    moved, step = rotated(net, keys, places[0]), torch.finfo(dtype).eps
    for times, (before, after) in enumerate(pairwise(places), start=1):
        moved = rotary.move(number, moved, before[None], after[None])
        direct = rotated(net, keys, after)
        error = (moved.double() - direct.double()).norm(dim=-1) / keys.double().norm(dim=-1)
        assert error.max() <= 2 * (times + 1) * step
    assert torch.equal(rotary.move(number, moved, places[-1][None], places[-1][None]), moved)


def test_contiguous_positions_keep_their_order_and_words_their_planes():
    positions = torch.tensor([[0, 0, 0], [1, 1, 1], [7, 7, 7], [8, 8, 8], [8, 9, 8], [20, 20, 20], [21, 21, 21]])
    fewer = positions[[0, 1, 5, 6]]
    (first, second), down = contiguous({0: positions[None], 3: fewer[None]}, 2, None)[0].values(), None
    assert first[0, :, 0].tolist() == [0, 1, 2, 3, 3, 5, 6]
    assert first[0, :, 1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert second[0, :, 2].tolist() == [0, 1, 5, 6]  # next to what comes
    _, down = contiguous({0: positions[None], 3: fewer[None]}, 2, None)
    assert down == 15


def test_of_a_clip_that_goes_on_times_alone_are_moved():
    positions = torch.tensor([[0, 0, 0], [1, 1, 1], [40, 2, 2], [40, 2, 3], [44, 3, 2], [60, 2, 2]])
    moved, down = contiguous({0: positions[None]}, 2, 2)
    assert moved[0][0].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 2, 3], [3, 3, 2], [4, 2, 2]]
    assert down == 56


def test_where_there_are_too_few_positions_the_earlier_steps_share_theirs():
    steps = torch.arange(10).repeat_interleave(2) * 7 + 3
    given = torch.stack(
        [torch.cat([torch.tensor([0, 1]), plane]) for plane in (steps, steps * 0 + 2, steps * 0 + 3)], 1
    )
    few = given[[0, 1, *range(12, 22)]]
    moved, down = contiguous({0: given[None], 1: few[None]}, 2, 2, room=6, apart=3)
    assert moved[0][0, 2::2, 0].tolist() == [2, 2, 2, 3, 3, 4, 4, 5, 6, 7]
    assert torch.equal(moved[0][0, 2::2], moved[0][0, 3::2])
    assert moved[1][0, 2::2, 0].tolist() == [3, 4, 5, 6, 7]
    assert torch.equal(moved[0][..., 1:], given[None][..., 1:]) and down == 66 - 7
    enough = contiguous({0: given[None]}, 2, 2, room=10, apart=3)[0][0]
    assert enough[0, 2::2, 0].tolist() == list(range(2, 12))


@pytest.mark.parametrize(
    ("name", "policy"), [("qwen2_5_vl", "infinipot"), ("qwen2_5_vl", "uniform"), ("qwen3_vl", "hermes")]
)
def test_a_question_draws_the_memory_together(name, policy):
    with stream(name, memory=150, policy=policy, span=6) as video:
        for window in range(8):
            video.feed(clip(4, window), [2.0 * (4 * window + frame) for frame in range(4)])
        before, state = tensors(video), video._watched.state
        found = video._watching._drawn_together(state)
        for number, layer in found.memory.layers.items():
            positions, former = (one.about[..., POSITION] for one in (layer, state.memory.layers[number]))
            own = positions[:, found.memory.protected :]
            used = [len(row.unique()) for row in own]
            assert max(used) == 6 if name == "qwen2_5_vl" else max(used) > 6
            assert int(own.max()) < found.clock.top <= state.clock.top
            assert torch.equal(positions.argsort(stable=True), former.argsort(stable=True))
        video.ask(QUESTION, max_new_tokens=2)
        assert_same(tensors(video), before)


def test_a_question_about_few_steps_is_asked_of_them_as_they_are():
    """Positions without gaps stay what they are, and with them the answer."""
    with stream("llava_onevision", span=10**6) as drawn, stream("llava_onevision") as left:
        for video in (drawn, left):
            video.feed(clip(), seconds())
        assert drawn.ask(QUESTION, max_new_tokens=8) == left.ask(QUESTION, max_new_tokens=8)
        torch.testing.assert_close(stream_logits(drawn), stream_logits(left))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy"),
    [*((name, "infinipot") for name in FAMILIES), *((n, p) for n in ("qwen2_5_vl", "qwen3_vl") for p in OTHERS)],
)
def test_a_stream_longer_than_the_model_knows_positions(name, policy):
    net = build_model(name)
    net.config.get_text_config().max_position_embeddings = 400
    step = 50.0 if name == "qwen2_5_vl" else 0.25
    with ff.stream(net, processor(name), memory=160, policy=policy, window=4) as video:
        for window in range(10):
            video.feed(clip(4, window), [step * (4 * window + frame) for frame in range(4)])
            held = [layer.about[..., POSITION:] for layer in video._watched.state.memory.layers.values()]
            assert max(int(positions.max()) for positions in held) < video._watched.state.clock.top <= 400
            assert policy == "retrieve" or video.status.tokens_kept <= 160
        assert video.ask(QUESTION, max_new_tokens=4).tokens_read <= 160


def test_without_forgetting_the_limit_is_said():
    net = build_model("llava_onevision")
    net.config.get_text_config().max_position_embeddings = 200
    with (
        ff.stream(net, processor("llava_onevision"), policy="none", window=4) as video,
        pytest.raises(ff.FrameFusionError, match="longer than the model"),
    ):
        for window in range(4):
            video.feed(clip(4, window), [float(4 * window + frame) for frame in range(4)])


def test_positions_before_the_limit_are_left_alone():
    with stream("qwen3_vl", policy="window", memory=160) as video:
        for window in range(4):
            video.feed(clip(4, window), [4.0 * window + frame for frame in range(4)])
        positions = video._watched.state.memory.layers[0].about[0, :, POSITION]
        assert int(positions.max()) > 160 // 4 and int(positions.diff().max()) > 1
