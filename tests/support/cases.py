"""Prompts and models shared by the contract tests."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import framefusion as ff
from framefusion.inference.reduction import reduce_clips
from framefusion.inference.report import Report
from tests.support.oracle import Oracle
from tests.support.scripted import Scripted
from tests.support.tiny import FAMILIES, build_model, moving_clip, prompt

PICTURE = moving_clip(frames=1, seed=9)[0]
ROWS: dict[str, list[tuple[str, Any]]] = {
    "full": [("video", moving_clip(change=0.3)), ("text", "what happens here?")],
    "short": [("text", "hi "), ("video", moving_clip(seed=1)), ("text", "?")],
    "two": [("video", moving_clip(seed=4)), ("text", "and now"), ("video", moving_clip(seed=2)), ("text", "?")],
    "text": [("text", "only words")],
    "images": [("image", PICTURE), ("text", "and"), ("image", PICTURE[::-1].copy()), ("text", "?")],
    "mixed": [("image", PICTURE), ("text", "then"), ("video", moving_clip(seed=3)), ("text", "what?")],
}
# One method whose cascade merges and then prunes in every family, and one that does anything anywhere.
METHODS = {
    "framefusion": ff.FrameFusion(cost=0.3, similarity_lower_bound=0.9),
    "scripted": Scripted(),
}
ATTENTIONS = ("sdpa", "eager")


def _parameter(name: str) -> Any:
    needs = FAMILIES[name].needs
    missing = needs is not None and find_spec(needs) is None
    return pytest.param(
        name, marks=pytest.mark.skipif(missing, reason=f"the processor of {name} needs {needs}, an optional extra")
    )


every_family = pytest.mark.parametrize("family", [_parameter(name) for name in FAMILIES])
both_attentions = pytest.mark.parametrize("attn", ATTENTIONS)
both_methods = pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))


@cache
def model_of(family: str, attn: str = "sdpa") -> nn.Module:
    return build_model(family, attn=attn)


def row_of(name: str) -> list[tuple[str, Any]]:
    """A named row, or plain text of `words<N>` letters."""
    return [("text", "a" * int(name.removeprefix("words")))] if name.startswith("words") else ROWS[name]


@cache
def _inputs(family: str, rows: tuple[str, ...], padding_side: str) -> dict[str, Tensor]:
    return prompt(family, [row_of(row) for row in rows], padding_side)


def inputs_of(family: str, *rows: str, padding_side: str = "left") -> dict[str, Tensor]:
    """Model inputs of a batch of named rows, a fresh dict of shared tensors."""
    return dict(_inputs(family, rows, padding_side))


@cache
def oracle_of(family: str, row: str, attn: str = "sdpa") -> Oracle:
    return Oracle(model_of(family, attn), inputs_of(family, row))


def real_columns(inputs: dict[str, Tensor], row: int) -> Tensor:
    """Columns of a row that are not padding."""
    return inputs["attention_mask"][row].nonzero().flatten()


@torch.no_grad()
def reduced(model: nn.Module, method: ff.Method, inputs: dict[str, Tensor], **options: Any) -> tuple[Any, Report]:
    """Output and report of one plain forward of a reduced model whose prompts show clips."""
    with reduce_clips(model, method) as reduction:
        output = model(**inputs, **options)
    return output, reduction.report


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to rounding, relative to the largest magnitude."""
    assert found.shape == expected.shape
    limit = tolerance * max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max())
    assert difference <= limit, f"off by {difference:.2e}, allowed {limit:.2e}"
