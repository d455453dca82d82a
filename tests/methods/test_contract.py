"""Every registered method keeps the contract of `framefusion.testing.methods`."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

import pytest
from torch import nn

from framefusion.core.method import Method
from framefusion.core.registry import methods
from framefusion.testing.methods import (
    CHECKS,
    can_walk,
    check_batch_equals_rows,
    check_text_is_untouched,
    layers_needed,
)
from tests.support.tiny import build_model, moving_clip, prompt

NEEDS_NO_ROW = {"facts", "options"}
FAMILIES = ("qwen3_vl", "llava_onevision")
# Every block changes in every frame: equal tokens would leave the choice between them to rounding.
CLIPS = [("video", moving_clip(seed=seed, change=1.0)) for seed in range(3)]
ROWS: tuple[list[tuple[str, Any]], ...] = (
    [CLIPS[0], ("text", "what happens here?")],
    [("text", "see "), CLIPS[1], ("text", " and "), CLIPS[2], ("text", "?")],
)
every_method = pytest.mark.parametrize("name", list(methods))
every_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def model_of(family: str, layers: int) -> nn.Module:
    return build_model(family, layers=layers)


@cache
def inputs_of(family: str, *rows: int) -> dict[str, Any]:
    return prompt(family, [ROWS[row] for row in rows])


def moderate(cls: type[Method]) -> Method:
    return cls(**{cls.facts.budget: 0.5})


@every_method
@pytest.mark.parametrize("check", list(CHECKS))
def test_contract(name: str, check: str) -> None:
    cls = methods.load(name)
    if check not in NEEDS_NO_ROW and not can_walk(cls):
        pytest.skip(f"{name} acts inside the vision tower")
    CHECKS[check](cls)


@every_method
@every_family
def test_a_batch_equals_its_rows(name: str, family: str) -> None:
    method = moderate(methods.load(name))
    model = model_of(family, layers_needed(method))
    check_batch_equals_rows(method, model, inputs_of(family, 0, 1), [inputs_of(family, 0), inputs_of(family, 1)])


@every_method
@every_family
def test_text_is_untouched(name: str, family: str) -> None:
    method = moderate(methods.load(name))
    check_text_is_untouched(method, model_of(family, layers_needed(method)), inputs_of(family, 0, 1))


@every_method
def test_a_method_is_registered_under_its_own_name(name: str) -> None:
    assert methods.load(name).facts.name == name


@every_method
def test_a_method_knows_nothing_of_models(name: str) -> None:
    source = inspect.getsource(sys.modules[methods.load(name).__module__])
    imported = {node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert not any(module.startswith(("transformers", "framefusion.engine")) for module in imported)
