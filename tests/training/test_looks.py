"""Where heads are taught to look: at what a word names, and from the answer at the words that name something."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framefusion.evaluation.synthetic_questions import draw_scene
from training.architecture import GRID, WIDTH
from training.facts import TAGS, points_at
from training.labels import NOTHING
from training.language import Reader
from training.library import look_at_clip, look_at_words, tags
from training.packing import HEAD, VISUAL, Asker, Look, pack
from training.states import LOWER

SEEDS, FEW = range(12), range(2)


def batch_of(seeds):
    asker, draw = Asker({}), np.random.default_rng(0)
    rows = [asker.segments(seed, draw) for seed in seeds]
    return pack(rows, np.tile(np.arange(VISUAL), (len(rows), 1)), draw)


@pytest.fixture(scope="module")
def batch():
    return batch_of(SEEDS)


@pytest.fixture(scope="module")
def chosen():
    """Tokens that show things as if by lot; `tags` says which ones a word wants."""
    draw = torch.Generator().manual_seed(0)
    shape = len(SEEDS), VISUAL
    return {
        "colour": torch.randint(7, shape, generator=draw),
        "here": torch.rand(shape, generator=draw) < 0.3,
        "middle": torch.rand(shape, generator=draw) < 0.1,
        "flash": torch.where(torch.rand(shape, generator=draw) < 0.02, 1, NOTHING),
        "digit": torch.where(torch.rand(shape, generator=draw) < 0.02, 7, NOTHING),
        "change": torch.randint(2, shape, generator=draw),
    }


def test_a_word_points_at_the_only_thing_it_can_mean():
    for seed in SEEDS:
        scene = draw_scene(seed)
        shapes = [thing.shape for thing in scene.things]
        for thing in scene.things:
            assert TAGS[points_at(scene, thing.colour)] == thing.colour
            meant = points_at(scene, thing.shape)
            assert meant == (TAGS.index(thing.colour) if shapes.count(thing.shape) == 1 else NOTHING)
        assert points_at(scene, "flashed") == TAGS.index("flashed") and points_at(scene, "the") == NOTHING


def test_from_a_word_heads_look_at_what_it_names(batch, chosen):
    look, shown = look_at_clip(chosen, batch, LOWER), tags(chosen)
    assert len(look.wanted) == len(look.rows[0]) > 100
    assert look.start == len(HEAD) - 1 and look.wanted[..., 0].all(0).tolist() == [False, False, False, True]
    for row, column, wanted in list(zip(*look.rows, look.wanted[..., 1:], strict=True))[::7]:
        there = shown[row, :, batch.points[row, column]]
        frames = torch.arange(VISUAL) // (GRID * GRID)
        first, last = frames[there][[0, -1]]
        assert torch.equal(wanted, torch.stack([there, *(there & (frames == one) for one in (first, last, last))]))


def test_from_an_answer_heads_look_at_the_words_it_is_about(batch):
    look = look_at_words(batch, LOWER)
    seen = set()
    for row, column, wanted in zip(*look.rows, look.wanted, strict=True):
        words = [head.nonzero().item() for head in wanted]
        named = (batch.points[row] != NOTHING) & (batch.segment[row] == batch.segment[row, column])
        assert batch.target[row, column] != NOTHING and all(named[word] and word < column for word in words)
        assert set(words) == set(named.nonzero().flatten().tolist()), "every word has a head"
        seen.add(len(set(words)))
    assert seen == {1, 2, 3}


def test_looking_there_costs_nothing_and_elsewhere_a_lot():
    wanted = torch.zeros(1, 2, 5, dtype=torch.bool)
    wanted[..., 2:4] = True
    look = Look(0, 2, (torch.tensor([0]), torch.tensor([1])), wanted)
    for columns, low, high in (((4, 5), 0, 1e-3), ((4,), 5, 15), ((6,), 15, 30)):
        scores = torch.zeros(1, 2, 3, 9)
        scores[0, :, 1, columns] = 20
        look.teach(scores)
        assert low <= look.loss.item() <= high


def test_teaching_leaves_what_is_computed_alone(chosen):
    torch.manual_seed(0)
    reader, tokens = Reader(LOWER + 2).eval(), torch.randn(len(FEW), VISUAL, WIDTH)
    batch, chosen = batch_of(FEW), {name: value[: len(FEW)] for name, value in chosen.items()}
    looks = [look_at_clip(chosen, batch, LOWER), look_at_words(batch, LOWER + 1)]
    with torch.no_grad():
        plain, taught = reader(tokens, batch)[0], reader(tokens, batch, None, looks)[0]
    assert torch.equal(plain, taught) and all(look.loss is not None and look.loss > 0.5 for look in looks)
