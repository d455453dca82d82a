"""The time of a decision counts a method's own code and nothing else."""

from __future__ import annotations

import pytest

import framefusion as ff
from framefusion.evaluation import decision_time
from framefusion.evaluation.decision_time import Clocked, decision_ms
from framefusion.evaluation.prefill import prefill
from framefusion.inference.reduction import reduce_clips
from tests.evaluation.ground import Ground, checkpoint
from tests.evaluation.test_comparison import ASKING


@pytest.fixture(scope="module")
def model():
    return checkpoint()


@pytest.fixture(scope="module")
def prompts(model):
    return [ASKING.prompt(model, question) for question in Ground().samples(3, 9)]


class Ticks:
    """Seconds that pass only when the clock is looked at, one a look."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.mark.parametrize(
    ("method", "decisions"),
    [
        (ff.Random(), 1),  # a stage that decides by a function
        (ff.VisionZip(), 1),  # the same in front of the projector, or else of layer 0
        (ff.PyramidDrop(), 3),  # several points
        (ff.Chain(ff.EVS(keep=0.5), ff.Random(keep=0.5)), 2),
    ],
)
def test_every_decision_is_timed_once_a_prompt(model, prompts, method, decisions, monkeypatch):
    monkeypatch.setattr(decision_time, "perf_counter", Ticks())
    found = decision_ms(model.model, method, prompts)
    assert found % 1000 == 0 and found >= 1000
    if not isinstance(method, ff.VisionZip):
        assert found == 1000 * decisions


@pytest.mark.parametrize("method", [ff.FrameFusion(), ff.TemporalWard(), ff.VisionZip(), ff.FastV(layer=2)])
def test_a_timed_method_decides_alike(model, prompts, method):
    clock = decision_time._Clock(model.model.device)
    reports = []
    for one in (method, Clocked(method, clock)):
        with reduce_clips(model.model, one) as reduction:
            clock.begin()
            prefill(model.model, prompts[0])
            reports.append({**reduction.report.to_dict(), "method": None, "prefill_ms": None})
    assert reports[0] == reports[1]
