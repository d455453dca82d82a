"""Counts are made from sizes or pixels, and every method keeps exactly as many."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.integrations.vllm.pixels import changed_places
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.settings import Settings
from framefusion.integrations.vllm.signals import embedding_signals, signals_of
from framefusion.methods.evs import EVS
from framefusion.testing.signals import run_stage
from tests.serving import clips

GRIDS = [(1, 1, 1), (1, 4, 4), (2, 1, 1), (4, 3, 5), (7, 4, 4)]
KEEPS = [0.01, 0.3, 0.5, 0.97, 1.0, 1, 5, 10_000]


def rows(recipe: Recipe, seed: int = 0) -> torch.Tensor:
    return torch.randn(recipe.total, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("newline", [False, True])
def test_exactly_as_many_as_counted(method, grid, newline):
    for keep in KEEPS:
        recipe = Recipe.write(Settings(method, keep), grid, newline)
        assert 1 <= recipe.kept <= recipe.patches
        geometry, hidden = recipe.geometry(), rows(recipe)
        plan = recipe.plan(signals_of(hidden, geometry, embedding_signals(hidden, geometry)))
        assert plan.kept == recipe.total_kept == len(plan.apply(hidden))
        if newline:
            assert plan.keep[-1] == recipe.total - 1


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("changed", [0, 1, 9, 45])
def test_counts_from_pixels_stay_within_the_clip(method, changed):
    recipe = Recipe.write(Settings(method, "pixels"), (4, 3, 5), False, changed)
    assert 1 <= recipe.kept <= recipe.patches
    hidden = rows(recipe)
    plan = recipe.plan(signals_of(hidden, recipe.geometry(), embedding_signals(hidden, recipe.geometry())))
    assert plan.kept == recipe.kept


def test_recipes_travel_as_tensors():
    recipe = Recipe.write(Settings("prumerge", 0.4, options={"neighbours": 3}), (4, 3, 5), True)
    assert Recipe.unpack(recipe.pack()) == recipe


def test_decisions_are_the_librarys_own():
    recipe = Recipe.write(Settings("evs", 0.4), (4, 3, 5), False)
    signals = signals_of(rows(recipe), recipe.geometry(), None)
    expected = run_stage(EVS(keep=0.4), signals)
    assert torch.equal(recipe.plan(signals).keep, expected.keep)


def test_ties_do_not_change_the_count():
    for method in RULES:
        recipe = Recipe.write(Settings(method, 0.5), (4, 3, 5), False)
        hidden = torch.ones(recipe.total, 8)
        plan = recipe.plan(signals_of(hidden, recipe.geometry(), embedding_signals(hidden, recipe.geometry())))
        assert plan.kept == recipe.kept


def test_changed_places():
    still = clips.still(8)
    assert changed_places(still, (4, 4, 4), 0.05) == 0
    assert changed_places(clips.moving(8), (4, 4, 4), 0.05) == 48
    corner = still.copy()
    corner[4:, :14, :14] = 255 - corner[4:, :14, :14]
    assert changed_places(corner, (8, 4, 4), 0.05) == 1
    assert changed_places(list(corner), (8, 4, 4), 0.05) == 1
    assert changed_places(still[:1], (1, 4, 4), 0.05) == 0


def test_a_request_goes_on_top_of_the_engine():
    engine = Settings("prumerge", 0.4, options={"neighbours": 3})
    assert engine.for_request({"keep": 0.7}) == Settings("prumerge", 0.7, options={"neighbours": 3})
    assert engine.for_request({"method": "evs"}) == Settings("evs", 0.4)
    with pytest.raises(OptionError, match="cannot be chosen by a request"):
        engine.for_request({"method": "visionzip"})
