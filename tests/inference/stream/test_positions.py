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
from tests.inference.stream.support import FAMILIES, QUESTION, clip, stream
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
