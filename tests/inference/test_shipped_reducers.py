"""The reducers that come with the package: small, found by their name, described, and ahead of random tokens."""

from __future__ import annotations

import pytest

import framefusion as ff
from framefusion.core.registry import read
from framefusion.evaluation import Records
from framefusion.evaluation.runner import Asking
from framefusion.evaluation.training.recipes import RECIPES
from framefusion.inference.reducer.load import FOLDER

NAMES = sorted(path.name for path in FOLDER.iterdir())
LARGEST = 2**20


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_made_by_its_recipe(name):
    folder = FOLDER / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < LARGEST
    found, card = ff.load_reducer(f"framefusion/{name}"), (folder / "README.md").read_text(encoding="utf-8")
    assert found.options() | read(name, RECIPES[name].options) == found.options()
    assert all(f"| {key} | {value} |" in card for key, value in RECIPES[name].settings.items())
    assert "Right answers" in card


@pytest.fixture(scope="module")
def records():
    """The dense model is asked once."""
    return Records(None)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_is_far_ahead_of_random_tokens(name, records):
    trained = ff.load_reducer(f"framefusion/{name}")
    asked = {"samples": 48, "seed": 31, "records": records, "asking": Asking(8, share_tower=True)}
    found = ff.evaluate(ff.load_checkpoint("framefusion/tiny"), trained, None, controls=[ff.Random()], **asked)
    assert found.comparisons[0].overall.difference.value >= 0.1
