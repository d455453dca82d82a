"""Peak memory of a variant in a process of its own: the same every time, whatever this process has kept."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from benchmarks import peak, shapes, trials
from benchmarks.cells import Cell
from framefusion.inference.answer.memory import CLEAR_REFERENCES

# 4,000 tokens: the MLP alone makes tensors of 32 MB.
WIDE = Cell("wide", "prompt", "wide", layers=4, frames=40, patches=100)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setitem(shapes.TEXTS, "wide", shapes.Text(64, 2048, 6, 4, 2, 64))


@pytest.mark.slow
@pytest.mark.skipif(not os.access(CLEAR_REFERENCES, os.W_OK), reason="the system does not tell the peak")
def test_the_same_prompt_takes_the_same_twice_and_less_reduced():
    first, second, reduced = (peak.peak_apart(WIDE, name) for name in ("dense", "dense", "reduced"))
    assert first > 32 and first == pytest.approx(second, rel=0.1)
    assert 0 < reduced < 0.8 * first


def test_the_attention_of_a_cell_is_at_work_where_its_peak_is_taken(monkeypatch):
    given = []
    monkeypatch.setattr(trials, "quantize", lambda model, precision: given.append(precision.attention))
    cell = replace(WIDE, frames=2, patches=4, layers=1, attention="sage-emulated")
    peak.answer(peak.question(cell, "dense"))
    assert given == ["sage-emulated"]


def test_a_process_that_fails_leaves_the_peak_unknown(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert peak.peak_apart(WIDE, "dense") is None
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert peak.peak_apart(replace(WIDE, frames=2), "oracle") is None
