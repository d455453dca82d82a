"""Counts are made from sizes or pixels, and every method keeps exactly as many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import PATCH
from framefusion.engine.vision.pixels import UnitGrid
from framefusion.integrations.vllm.leave_out import encoded_of
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.pixels import encoded_units, repeated_tokens, repeated_within
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.rules import OF_PICTURES, RULES
from framefusion.integrations.vllm.settings import Settings
from framefusion.integrations.vllm.signals import embedding_signals, signals_of
from framefusion.methods.evs import EVS
from framefusion.methods.pixel_dedup import PixelDedup
from framefusion.models.pixel_range import PixelRange
from framefusion.testing.signals import run_stage
from tests.serving import clips

GRIDS = [(1, 1, 1), (1, 4, 4), (2, 1, 1), (4, 3, 5), (7, 4, 4)]
KEEPS = [0.01, 0.3, 0.5, 0.97, 1.0, 1, 5, 10_000]
BEHIND = [name for name, rule in RULES.items() if not rule.before_tower and not rule.within]
RAW = PixelRange((0.0,), (1 / 255,))


def rows(recipe: Recipe, seed: int = 0) -> torch.Tensor:
    return torch.randn(recipe.total, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", BEHIND)
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


PICTURES = [
    PictureGrid(1, 1),
    PictureGrid(4, 6),
    PictureGrid(4, 4, newline=True),
    PictureGrid(4, 4, parts=3),
    PictureGrid(4, 4, tile_rows=5, tile_columns=8, encoded=3),
    PictureGrid.flat(7),
]


@pytest.mark.parametrize("method", [name for name in OF_PICTURES if not RULES[name].within])
@pytest.mark.parametrize("grid", PICTURES)
def test_exactly_as_many_of_a_picture_as_counted(method, grid):
    for keep in KEEPS:
        recipe = Recipe.of_picture(Settings(method, keep), grid)
        assert Recipe.unpack(recipe.pack()) == recipe
        geometry, hidden = recipe.geometry(), rows(recipe)
        assert len(geometry) == recipe.total
        plan = recipe.plan(signals_of(hidden, geometry, embedding_signals(hidden, geometry)))
        assert plan.kept == recipe.total_kept == len(plan.apply(hidden))
        assert (geometry.kind[plan.keep] != PATCH).sum() == recipe.newlines == (geometry.kind != PATCH).sum()
        share = recipe.kept / recipe.patches
        assert isinstance(keep, int) or abs(share - keep) * recipe.patches <= 1.5 * recipe.frames


def test_tiles_that_are_pictures_of_their_own_keep_their_own_share():
    recipe = Recipe.of_picture(Settings("divprune", 0.25), PictureGrid(4, 4, parts=3))
    hidden = rows(recipe)
    keep = recipe.plan(signals_of(hidden, recipe.geometry(), None)).keep
    assert (keep // 16).bincount().tolist() == [4, 4, 4]
    alone = Recipe.of_picture(Settings("divprune", 0.25), PictureGrid(4, 4))
    second = alone.plan(signals_of(hidden[16:32], alone.geometry(), None)).keep
    assert keep[(keep >= 16) & (keep < 32)].tolist() == (second + 16).tolist()


@pytest.mark.parametrize("method", BEHIND)
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
    for method in BEHIND:
        recipe = Recipe.write(Settings(method, 0.5), (4, 3, 5), False)
        hidden = torch.ones(recipe.total, 8)
        plan = recipe.plan(signals_of(hidden, recipe.geometry(), embedding_signals(hidden, recipe.geometry())))
        assert plan.kept == recipe.kept


def pictures(clip: np.ndarray) -> torch.Tensor:
    """As a tower takes them that cuts pictures itself."""
    return torch.from_numpy(clip.copy()).movedim(-1, 1).float()


def test_units_that_change_are_encoded():
    still, grid = clips.still(8), UnitGrid(4, 4, 1, 14, grouped=False)
    rule = PixelDedup(threshold=0.1, max_share=1.0)  # the mean of much noise changes little
    assert encoded_units(pictures(still), grid, RAW, rule).flatten(1).sum(1).tolist() == [16, *[0] * 7]
    assert encoded_units(pictures(clips.moving(8)), grid, RAW, rule).all()
    corner = still.copy()
    corner[4:, :14, :14] = 255 - corner[4:, :14, :14]
    found = encoded_units(pictures(corner), grid, RAW, rule)
    assert found[4, 0, 0] and not found[4, 2:, 2:].any() and not found[[1, 2, 3, 5, 6, 7]].any()
    assert encoded_units(pictures(still[:1]), grid, RAW, rule).all()


def test_tokens_of_several_units_repeat_only_where_all_of_them_do():
    encoded = torch.zeros(3, 4, 4, dtype=torch.bool)
    encoded[0] = True
    encoded[1, 0, 1] = encoded[2, 3, 3] = True
    assert repeated_tokens(encoded, 2, 2).tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 11]


def test_only_encoded_tokens_stay_with_the_method_that_decides_from_pixels():
    encoded = torch.zeros(3, 2, 2, dtype=torch.bool)
    encoded[0] = encoded[2, 1] = True
    for newline in (False, True):
        recipe = Recipe.write(Settings("pixel_dedup", 0.5), (3, 2, 2), newline, changed=2)
        hidden = rows(recipe)
        signals = signals_of(hidden, recipe.geometry(), None, repeated_tokens(encoded, 2, 2))
        assert recipe.plan(signals).keep.tolist() == [0, 1, 2, 3, 10, 11, *([12] if newline else [])]


def test_pictures_of_several_videos_show_their_own():
    first, second = torch.ones(2, 1, 2, dtype=torch.bool), torch.tensor([[[True, True]], [[False, True]]])
    made = encoded_of([first, second], 1, grouped=True)
    assert made.shown_rows(None).tolist() == [0, 1, 2, 3, 4, 5, 4, 7]


@pytest.mark.parametrize("option", ["mode", "reuse", "blend", "proportional_attention"])
def test_what_a_tower_does_with_what_is_left_out_is_fixed(option):
    value = "copy" if option == "mode" else False
    with pytest.raises(OptionError, match="no place"):
        Settings.read({"method": "pixel_dedup", option: value})


def test_the_rule_of_a_setting():
    assert Settings().pixel_rule() is None
    assert Settings(keep="pixels").pixel_rule() == PixelDedup()
    assert Settings("evs", "pixels", pixel_change=0.1).pixel_rule() == PixelDedup(threshold=0.1)
    assert Settings.read({"method": "pixel_dedup"}).pixel_rule() == PixelDedup()
    given = {"method": "pixel_dedup", "keep": 0.4, "refresh": 3, "max_share": 1.0, "threshold": 0.2}
    assert Settings.read(given).pixel_rule() == PixelDedup(keep=0.4, refresh=3, max_share=1.0, threshold=0.2)


def test_pictures_are_reduced_only_where_a_setting_says_so():
    assert Settings("divprune", 0.4).of_pictures is None
    same = Settings("prumerge", 0.4, pictures=True, options={"neighbours": 3})
    assert same.of_pictures == Settings("prumerge", 0.4, options={"neighbours": 3})
    assert Settings("evs", 0.4, pictures="uniform").of_pictures == Settings("uniform", 0.4)
    own = Settings(pictures={"method": "prumerge", "keep": 9, "neighbours": 2})
    assert own.of_pictures == Settings("prumerge", 9, options={"neighbours": 2})


def test_a_method_that_decides_within_a_picture_has_no_budget():
    engine = Settings("evs", 0.4, pictures={"method": "pixel_prune", "threshold": 0.1})
    assert engine.of_pictures.options == {"threshold": 0.1}
    assert Settings("evs", "pixels", pictures="pixel_prune").of_pictures.options == {"threshold": 0.0}
    assert engine.for_request({"pictures": {"threshold": 0.2}}).of_pictures.options == {"threshold": 0.2}
    assert engine.for_request({"pictures": "divprune"}).of_pictures == Settings("divprune", 0.4)
    other = Settings("evs", 0.4, pictures={"method": "divprune", "keep": 0.6})
    assert other.for_request({"pictures": "pixel_prune"}).of_pictures.method == "pixel_prune"
    for given, words in (({"keep": 0.5}, "no budget"), ({"theta": 1}, "no option `theta`")):
        with pytest.raises(OptionError, match=words):
            engine.for_request({"pictures": given})
    with pytest.raises(OptionError, match="`pixel_prune` cannot reduce videos"):
        Settings("pixel_prune")


def test_tokens_that_repeat_no_other_stay():
    distinct = torch.zeros(2, 2, 3, dtype=torch.bool)
    distinct[:, 0, 0] = distinct[1, 1, 2] = True
    recipe = Recipe.of_picture(Settings("evs", pictures="pixel_prune").of_pictures, PictureGrid(2, 3, parts=2), 3)
    hidden = rows(recipe)
    plan = recipe.plan(signals_of(hidden, recipe.geometry(), None, repeated_within(distinct)))
    assert plan.keep.tolist() == [0, 6, 11]
    assert torch.equal(plan.apply(hidden), hidden[plan.keep])


def test_a_request_goes_on_top_of_the_pictures_of_the_engine():
    engine = Settings("evs", 0.4, pictures={"method": "prumerge", "keep": 0.6, "neighbours": 3})
    assert engine.for_request({"keep": 0.7}).of_pictures == engine.of_pictures
    own = engine.for_request({"pictures": {"keep": 0.2}}).of_pictures
    assert own == Settings("prumerge", 0.2, options={"neighbours": 3})
    assert engine.for_request({"pictures": "uniform"}).of_pictures == Settings("uniform", 0.6)
    assert engine.for_request({"pictures": False}).of_pictures is None
    follows = Settings("divprune", 0.4, pictures=True)
    assert follows.for_request({"keep": 0.7}).of_pictures == Settings("divprune", 0.7)
    assert Settings("evs", 0.4).for_request({"pictures": "divprune"}).of_pictures == Settings("divprune", 0.4)
    with pytest.raises(OptionError, match="cannot reduce pictures"):
        follows.for_request({"method": "evs"})
    with pytest.raises(OptionError, match="cannot be chosen by a request"):
        follows.for_request({"pictures": "visionzip"})


def test_a_request_goes_on_top_of_the_engine():
    engine = Settings("prumerge", 0.4, options={"neighbours": 3})
    assert engine.for_request({"keep": 0.7}) == Settings("prumerge", 0.7, options={"neighbours": 3})
    assert engine.for_request({"method": "evs"}) == Settings("evs", 0.4)
    assert engine.for_request({"method": "pixel_dedup"}) == Settings("pixel_dedup", "pixels")
    assert Settings("pixel_dedup", 0.2).for_request({"refresh": 3}).pixel_rule() == PixelDedup(keep=0.2, refresh=3)
    with pytest.raises(OptionError, match="cannot be chosen by a request"):
        engine.for_request({"method": "visionzip"})
