"""Reducers that come with the package: small, loaded by name, made by their recipe, and better than guessing."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

import framefusion as ff
from framefusion.cli.options import build_method, with_reducer
from framefusion.core.registry import method as method_named
from framefusion.evaluation import Asking, Records, evaluate
from framefusion.evaluation.training.recipes import recipe_for
from framefusion.evaluation.training.settings import Settings
from framefusion.inference.reducer.load import FOLDER
from framefusion.inference.tiny import NAME

SHIPPED = sorted(folder.name for folder in FOLDER.iterdir())
LARGEST = 1_000_000  # bytes
QUESTIONS, SEED = 48, 5


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_loaded_by_its_name(name):
    assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) < LARGEST
    reducer = ff.load_reducer(f"framefusion/{name}")
    assert reducer.facts.name == name and reducer.weights is not None
    chosen = with_reducer(method_named(name)(), None, [], NAME)
    assert chosen.options() == reducer.options()
    assert with_reducer(method_named(name)(), None, [], "other").options() == method_named(name)().options()


@pytest.mark.parametrize("name", SHIPPED)
def test_its_recipe_is_what_its_card_says(name):
    recipe = recipe_for(name, NAME)
    built = build_method(name, None, recipe.words(name, None, []))
    settings = json.loads((FOLDER / name / "reducer_config.json").read_text(encoding="utf-8"))
    assert settings["options"] == json.loads(json.dumps(built.options()))
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| (\S+) \|$", card, re.MULTILINE))
    told = asdict(Settings(**recipe.completed({})))
    kept = [key for key in told if key not in ("score", "score_seed")]
    assert {key: rows[key] for key in kept} == {key: str(told[key]) for key in kept}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_it_answers_better_than_chance(name):
    tiny = ff.load_checkpoint(NAME, device="cpu")
    reducer = ff.load_reducer(f"framefusion/{name}")
    asked = {"controls": [], "samples": QUESTIONS, "seed": SEED, "records": Records(None)}
    found = evaluate(tiny, reducer, None, asking=Asking(batch=8, new_tokens=4), **asked)
    assert found.reduced.score.accuracy.low > found.chance and found.reduced.score.cost < 0.1
