"""How often a reduction point waits for the device: every value that Python reads empties a GPU's queue."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import framefusion as ff
from framefusion.engine.decoder.forward import Forward
from tests.support.cases import METHODS, inputs_of, model_of

READS = {"_local_scalar_dense", "nonzero", "_unique2", "equal", "masked_select"}
# Where only a CPU goes, which has nothing to wait for.
ON_A_CPU = {"_before", "_pieces", "runs_forward"}


class Questions(TorchDispatchMode):
    """Names of the operations that return values to Python, or tensors whose shape depends on them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masked = name == "index" and any(one is not None and one.dtype == torch.bool for one in args[1])
        if name in READS or masked:
            self.note(name)
        return function(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        frame, callers = sys._getframe(1), set()
        while frame is not None:
            callers.add(frame.f_code.co_name)
            frame = frame.f_back
        if not callers & ON_A_CPU:
            self.asked.append(name)


@pytest.fixture
def questions(monkeypatch):
    """Of each reduction point, in order."""
    found: list[list[str]] = []
    advance, tolist = Forward._advance, torch.Tensor.tolist

    def watched(self, *args):
        with Questions() as mode, monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "tolist", lambda values: (mode.note("tolist"), tolist(values))[1])
            result = advance(self, *args)
        found.append(mode.asked)
        return result

    monkeypatch.setattr(Forward, "_advance", watched)
    return found


@pytest.mark.parametrize(
    "method",
    [METHODS["framefusion"], ff.FastV(keep=0.5, layer=1)],
    ids=["framefusion", "fastv"],
)
def test_a_point_asks_at_most_once(questions, method):
    with torch.no_grad(), ff.reduce(model_of("qwen2_vl"), method) as reduction:
        model_of("qwen2_vl")(**inputs_of("qwen2_vl", "full"))
    assert len(reduction.report.decisions) <= len(questions)
    assert max(map(len, questions)) <= 1, questions


def test_what_framefusion_prunes_is_known_beforehand(questions):
    with torch.no_grad(), ff.reduce(model_of("qwen2_vl"), METHODS["framefusion"]) as reduction:
        model_of("qwen2_vl")(**inputs_of("qwen2_vl", "full"))
    last = reduction.report.decisions[-1]
    assert not last.plan.merges and last.plan.kept < last.plan.count
    assert questions[len(reduction.report.decisions) - 1] == []
