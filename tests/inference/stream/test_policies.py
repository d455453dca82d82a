"""Policies are pure: what they keep of tensors, beside their papers written out."""

from __future__ import annotations

import pytest
import torch

from framefusion.inference.stream.policies import POLICIES
from framefusion.inference.stream.policies.hermes import Hermes
from framefusion.inference.stream.policies.infinipot import InfiniPot
from framefusion.inference.stream.policies.policy import WORDS, Entries
from framefusion.inference.stream.policies.uniform import Uniform
from framefusion.inference.stream.policies.window import Window
from tests.reference import hermes as plain_hermes
from tests.reference import infinipot as plain_infinipot

HEADS, WIDTH, PLACES = 2, 6, 5


def entries(frames=8, words=0, protected=3, seed=0, per_head=False, summary=False):
    """Entries of frames with PLACES tokens and some words each, behind a few protected ones."""
    draw = torch.Generator().manual_seed(seed)
    frame, place = [0] * protected, [WORDS + number for number in range(protected)]
    if summary:
        frame, place = [*frame, 0], [*place, -4]
    for number in range(frames):
        frame += [number] * (PLACES + words)
        place += [*(WORDS + word for word in range(words)), *range(PLACES)]
    count = len(frame)
    frame, place = torch.tensor(frame)[None], torch.tensor(place)[None]
    if per_head:  # as after a first compression: each head lacks some older entry of its own
        frame, place = frame.expand(HEADS, -1), place.expand(HEADS, -1)
        stays = [[i for i in range(count) if i != protected + head] for head in range(HEADS)]
        frame = torch.stack([frame[head][stays[head]] for head in range(HEADS)])
        place = torch.stack([place[head][stays[head]] for head in range(HEADS)])
        count -= 1
    keys, values = (torch.randn(HEADS, count, WIDTH, generator=draw) for _ in range(2))
    position = torch.arange(count)[None, :, None].expand(frame.shape[0], -1, 1)
    return Entries(keys, values, frame, place, position, protected, torch.rand(count, generator=draw))


@pytest.mark.parametrize("budget", [9, 17, 26, 33])
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("words", [0, 2])
def test_infinipot_is_the_paper(budget, per_head, words):
    given = entries(words=words, per_head=per_head)
    found = InfiniPot().keep(given, budget).index
    assert found.shape == (HEADS, budget)
    for head in range(HEADS):
        row = head if per_head else 0
        visual = [0 <= place < WORDS for place in given.place[row].tolist()]
        expected = plain_infinipot.kept(
            given.keys[head].tolist(),
            given.values[head].tolist(),
            given.frame[row].tolist(),
            given.place[row].tolist(),
            visual,
            given.protected,
            budget,
        )
        assert found[head].tolist() == expected


def tokens(one):
    """Which token each entry is, None for a summary."""
    pairs = zip(one.frame[0].tolist(), one.place[0].tolist(), strict=True)
    return [None if place < 0 else (frame, place) for frame, place in pairs]


@pytest.mark.parametrize("budget", [12, 20, 31])
@pytest.mark.parametrize("summary", [False, True])
def test_hermes_is_the_paper(budget, summary):
    # Layers that hold different tokens, as after a first compression.
    layers = [entries(frames=8 - number % 3, seed=number, summary=summary and number > 6) for number in range(10)]
    names = [tokens(one) for one in layers]
    found = Hermes().compress(layers, budget)
    expected = plain_hermes.kept(names, [one.scores.tolist() for one in layers], 3, budget)
    for kept, (stays, folded) in zip(found, expected, strict=True):
        assert kept.index[0].tolist() == stays
        assert ([] if kept.folded is None else kept.folded.tolist()) == folded


def test_hermes_asks_shallow_layers_what_happens_and_deep_ones_what_it_is_about():
    policy = Hermes()
    assert [policy.question_of(layer, 10) for layer in range(10)] == [0] * 7 + [1] * 3


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ("none", "retrieve")])
@pytest.mark.parametrize("words", [0, 1])
def test_a_budget_is_never_exceeded_and_the_front_stays(name, words):
    layers = [entries(words=words, seed=number) for number in range(4)]
    for budget in (4, 5, 11, 40):
        for one, kept in zip(layers, POLICIES[name]().compress(layers, budget), strict=True):
            extra = 1 if kept.folded is not None and len(kept.folded) else 0
            assert kept.index.shape[1] + extra <= max(budget, 0)
            assert kept.index[:, : one.protected].tolist() == [[0, 1, 2]] * kept.index.shape[0]
            assert bool((kept.index.diff(dim=1) > 0).all())


@pytest.mark.parametrize("name", POLICIES)
def test_what_fits_stays(name):
    layers = [entries(frames=3, seed=number) for number in range(4)]
    for kept in POLICIES[name]().compress(layers, 100):
        assert kept.index.tolist() == [list(range(18))] and kept.folded is None


def test_the_window_keeps_the_latest():
    assert Window().keep(entries(), 7).index.tolist() == [[0, 1, 2, 39, 40, 41, 42]]


@pytest.mark.parametrize("frames", [5, 16, 37])
def test_uniform_frames_are_spread_over_the_whole_stream(frames):
    given = entries(frames=frames)
    kept = Uniform().keep(given, 3 + 4 * PLACES).index[0]
    staying = given.frame[0, kept[3:]].unique().tolist()
    assert len(staying) == 4 and staying[0] == 0
    gaps = [after - before for before, after in zip(staying, [*staying[1:], frames], strict=True)]
    assert max(gaps) <= 2 * -(-frames // 4)
