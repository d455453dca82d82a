"""What a request to transformers' server wants, on top of the method that the server was started with."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import framefusion as ff
from framefusion.core.errors import FrameFusionError
from framefusion.core.learned import Weights
from framefusion.core.method import MethodFacts
from framefusion.core.model_shape import ModelShape
from framefusion.core.options import Keep
from framefusion.integrations.transformers_serve.wish import read_wish


def wished(default, **given):
    return read_wish({"messages": [], "visual_reduction": given}, default).method


@dataclass(frozen=True)
class Unregistered(ff.ScoredMethod):
    keep: Keep = 0.3
    facts = MethodFacts("of_a_stranger", "Of a stranger", "", "keeps something", "before layer 0")


@pytest.mark.parametrize(
    ("default", "given", "wanted"),
    [
        (ff.FastV(keep=0.5, layer=3), {"cost": 0.2}, ff.FastV(keep=0.2, layer=3)),
        (ff.FastV(keep=0.5, layer=3), {"layer": 1}, ff.FastV(keep=0.5, layer=1)),
        (ff.FastV(keep=0.5, layer=3), {"method": "fastv", "keep": 9}, ff.FastV(keep=9, layer=3)),
        (ff.FastV(keep=0.5, layer=3), {"method": "uniform"}, ff.Uniform()),
        (ff.FastV(keep=0.5, layer=3), {"method": "dense"}, None),
        (ff.FrameFusion(cost=0.3), {"keep": 0.4}, ff.FrameFusion(cost=0.4)),
        (ff.WithoutSinks(ff.FastV(layer=3), 0.7), {"cost": 0.2}, ff.WithoutSinks(ff.FastV(0.2, layer=3), 0.7)),
        (Unregistered(), {"keep": 0.6}, Unregistered(0.6)),
    ],
)
def test_what_is_not_said_stays_as_the_server_has_it(default, given, wanted):
    assert wished(default, **given) == wanted


def test_a_learned_reducer_keeps_its_weights_and_is_not_read_for_it(monkeypatch):
    default = ff.ATPLLaVA(keep=0.5).untrained(ModelShape("qwen2_5_vl", layers=12, hidden=32, vision=32))
    monkeypatch.setattr(Weights, "fingerprint", lambda self: pytest.fail("all weights were read for one request"))
    found = wished(default, cost=0.2)
    assert found.keep == 0.2 and found.weights is default.weights


@pytest.mark.parametrize("given", [{"weights": "0" * 16}, {"no_such": 1}, {"cost": 0.2, "keep": 0.2}, {"cost": -1}])
@pytest.mark.parametrize("default", [ff.FastV(), ff.WithoutSinks(ff.FastV()), Unregistered(), ff.ATPLLaVA()], ids=repr)
def test_what_makes_no_sense_is_refused(default, given):
    with pytest.raises(FrameFusionError):
        wished(default, **given)
