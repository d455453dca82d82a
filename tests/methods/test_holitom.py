"""HoliTom's inner stage against its plain transcription."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.method import before
from framefusion.methods.holitom import HoliTom
from framefusion.testing.signals import make_signals
from tests.methods.decoder import GRIDS, Walk, clips, draw, everything, patches, values
from tests.reference import holitom


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("keep", [0.2, 0.5])
@pytest.mark.parametrize("seed", range(2))
def test_same_tokens_and_values_as_the_plain_one(grid, keep, seed):
    geometry = GRIDS[grid]
    hidden, signals_at = values(geometry, seed=seed), everything(geometry, seed)
    walk = Walk(HoliTom(keep), geometry, hidden, signals_at)
    for clip in clips(geometry):
        tokens = patches(geometry, clip)
        attention = signals_at(3, tokens)["attention"][0].tolist()
        kept, merged = holitom.merge(hidden[tokens].tolist(), attention, [1.0] * len(tokens), keep)
        inside = torch.isin(walk.alive, torch.tensor(tokens))
        assert walk.alive[inside].tolist() == [tokens[i] for i in kept]
        torch.testing.assert_close(walk.hidden[inside], torch.tensor(merged))


def test_tokens_count_as_many_as_they_carry():
    geometry = GRIDS["one frame"]
    hidden, signals_at = values(geometry), everything(geometry)
    size = draw(len(geometry), seed=5).abs() + 1
    signals = make_signals(geometry, hidden, before(2), size=size, **signals_at(2, torch.arange(len(geometry))))
    plan = HoliTom(0.4).decide(signals, 6)
    _, merged = holitom.merge(hidden.tolist(), signals.attention(1).tolist(), size.tolist(), 0.4)
    torch.testing.assert_close(plan.apply(hidden), torch.tensor(merged))
    torch.testing.assert_close(plan.sizes(size).sum(), size.sum())


def test_published_layer_scales_with_depth():
    assert tuple(HoliTom().stages()[0].points(28)) == (before(18),)
    assert tuple(HoliTom(layer=3).stages()[0].points(28)) == (before(3),)


@pytest.mark.parametrize("grid", GRIDS)
def test_strict_halves_with_one_token_after_the_other(grid):
    geometry = GRIDS[grid]
    hidden, signals_at = values(geometry, seed=3), everything(geometry, 3)
    signals = make_signals(geometry, hidden, before(2), **signals_at(2, torch.arange(len(geometry))))
    count = max(1, len(geometry) // 3)
    plan, plain = (HoliTom(count, strict=strict).decide(signals, count) for strict in (True, False))
    assert torch.equal(plan.owner, plain.owner)
    expected = hidden.clone()
    for token, slot in enumerate(plan.owner.tolist()):
        kept = int(plan.keep[slot])
        if token != kept:
            expected[kept] = (expected[kept] + hidden[token]) / 2
    torch.testing.assert_close(plan.apply(hidden), expected[plan.keep])
