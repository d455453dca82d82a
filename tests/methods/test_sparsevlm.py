"""SparseVLM against its plain transcription."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.ops.attention import text_raters
from framefusion.methods.sparsevlm import SparseVLM
from tests.methods.decoder import GRIDS, LAYERS, Walk, clips, draw, everything, patches, values
from tests.reference import sparsevlm

STEPS = (1, 2)


def expected(geometry, clip, hidden, signals_at, keep):
    """Tokens of a clip left after the steps, without recycling."""
    tokens = patches(geometry, clip)
    text = signals_at(0, torch.tensor(tokens))["text"][2:]
    rating = sparsevlm.raters(hidden[tokens].tolist(), text.tolist())
    left = tokens
    for number, layer in enumerate(STEPS, start=1):
        count = max(1, round(keep * len(tokens)), round(keep ** (number / len(STEPS)) * len(tokens)))
        score = sparsevlm.scores(signals_at(layer, torch.tensor(left))["text_attention"].tolist(), rating)
        left = sorted(left[i] for i in sparsevlm.ranked(score)[:count])
    return left


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("keep", [0.1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_same_tokens_as_the_plain_one(grid, keep, seed):
    geometry = GRIDS[grid]
    hidden, signals_at = values(geometry, seed=seed), everything(geometry, seed)
    assert [point.layer for point in SparseVLM(keep).stages()[0].points(LAYERS)] == [0, *STEPS]
    walk = Walk(SparseVLM(keep), geometry, hidden, signals_at)
    for clip in clips(geometry):
        left = [t for t in walk.alive.tolist() if t in patches(geometry, clip)]
        assert left == expected(geometry, clip, hidden, signals_at, keep)


@pytest.mark.parametrize("count", [1, 2, 20, 60])
@pytest.mark.parametrize("seed", range(3))
def test_recycled_clusters_as_in_the_plain_one(count, seed):
    geometry = GRIDS["square"]
    hidden, signals_at = values(geometry, seed=seed), everything(geometry, seed)
    walk = Walk(SparseVLM(count, layers=(2,), recycle=True), geometry, hidden, signals_at)
    rating = sparsevlm.raters(hidden.tolist(), signals_at(0, walk.alive)["text"][2:].tolist())
    score = sparsevlm.scores(signals_at(2, torch.arange(len(geometry)))["text_attention"].tolist(), rating)
    groups = sparsevlm.recycle(score, count, hidden.tolist())
    assert walk.alive.tolist() == sorted(groups)
    means = torch.stack([hidden[groups[token]].mean(0) for token in sorted(groups)])
    torch.testing.assert_close(walk.hidden, means)


def test_published_layers_scale_with_depth():
    assert [point.layer for point in SparseVLM().stages()[0].points(32)] == [0, 3, 7, 16]


def test_published_counts_can_be_given():
    shares = (300 / 576, 200 / 576, 110 / 576)
    assert SparseVLM(shares=shares).steps().counts(576, 3) == [300, 200, 110]


@pytest.mark.parametrize("seed", range(4))
def test_raters_as_in_the_plain_one(seed):
    visual, text = draw(9, 6, seed=seed), draw(5, 6, seed=seed + 50)
    assert text_raters(visual, text).tolist() == sparsevlm.raters(visual.tolist(), text.tolist())


def test_words_that_all_look_alike_all_rate():
    assert text_raters(torch.ones(3, 4), torch.ones(5, 4)).tolist() == [True] * 5
    assert text_raters(torch.ones(3, 4), torch.ones(0, 4)).tolist() == []


def test_without_a_question_the_last_query_rates():
    geometry = GRIDS["one frame"]
    signals_at = everything(geometry)

    def mute(layer, alive):
        given = signals_at(layer, alive) | {"asks": torch.zeros(6, dtype=torch.bool)}
        if layer:
            given["text_attention"] = given["text_attention"][:, :0]
        return given

    walk = Walk(SparseVLM(4, layers=(2,)), geometry, values(geometry), mute)
    best = signals_at(2, torch.arange(len(geometry)))["attention"][0].topk(4).indices
    assert walk.alive.tolist() == sorted(best.tolist())


def test_words_that_come_to_ask_later_do_not_shift_the_raters():
    """Text between the last surviving token and the one that was last asks at later layers too."""
    geometry = GRIDS["one frame"]
    hidden, signals_at = values(geometry), everything(geometry)

    def shifted(layer, alive):
        given = signals_at(layer, alive)
        if layer:
            given["asks"] = torch.arange(6) >= 1
            more = torch.rand(2, 1, len(alive), generator=torch.Generator().manual_seed(0))
            given["text_attention"] = torch.cat([more, given["text_attention"]], 1)
        return given

    plain = Walk(SparseVLM(0.3), geometry, hidden, signals_at)
    assert torch.equal(Walk(SparseVLM(0.3), geometry, hidden, shifted).alive, plain.alive)
