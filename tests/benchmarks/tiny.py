"""A model and cells small enough for tests."""

from __future__ import annotations

import pytest
import torch

from benchmarks import shapes
from benchmarks.cells import Cell

CPU = torch.device("cpu")
WIDTH = 64
TINY = shapes.Text(WIDTH, 96, 6, 4, 2, 64)
BATCH = Cell("tiny batch", "batch", "tiny", layers=4, frames=12, patches=16, rows=2, decode=1)
MERGE = Cell("tiny merge", "merge", "tiny", frames=6, patches=16)
PROMPT = Cell("tiny prompt", "prompt", "tiny", layers=4, frames=20, patches=16, repeats=1, decode=2)


@pytest.fixture(scope="module")
def tiny_shape():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.TEXTS, "tiny", TINY)
        yield "tiny"
