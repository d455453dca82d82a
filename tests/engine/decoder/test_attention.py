"""Scores of a layer that reads the keys of an earlier one, which has more of them once tokens are gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch

import framefusion as ff
from framefusion.core.method import MethodFacts, after_attention, before
from framefusion.core.plan import Plan
from framefusion.engine import context
from framefusion.engine.model.parts import find_parts
from framefusion.testing.conformance.toy import build, names, spliced, toy_of

SHARED, SOURCE = 3, 1


@dataclass(frozen=True)
class Halve:
    """Every second token goes before layer 2; the scores of layer 3 are noted."""

    scores: list[Any] = field(default_factory=list)
    stream: ClassVar[str] = "prompt"
    scope: ClassVar[str] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset({"attention"})

    def points(self, layers):
        return (before(2), after_attention(SHARED))

    def start(self, setting):
        return None

    def step(self, state, signals):
        if signals.point == before(2):
            return Plan.select(torch.arange(0, len(signals), 2), len(signals)), None
        self.scores.append(signals.attention(1))
        return None, None


@dataclass(frozen=True)
class Watch(ff.Method):
    stage: Halve = field(default_factory=Halve)
    facts: ClassVar[MethodFacts] = MethodFacts("watch", "Watch", "", "", "", True, "geometry", False)

    def stages(self):
        return (self.stage,)


@pytest.mark.parametrize("name", ["gemma3n", "gemma4"])
@torch.no_grad()
def test_scores_are_the_weights_of_the_layer(name):
    model = build(name, dict(names())[name])
    given, way, weights = toy_of(model).prompt(), Watch(), []
    blocks = find_parts(model).blocks
    assert blocks[SHARED].key_source == SOURCE

    def keep(module, args, output):
        forward = context.forward()
        (row,) = forward.sequence.rows
        columns, keys = forward.sequence.columns[0][row.slots], forward.inputs.keys[SHARED].columns[0]
        weights.append(output[1][0].mean(0)[-1][torch.searchsorted(keys.contiguous(), columns)])

    handle = blocks[SHARED].attention.register_forward_hook(keep)
    with ff.reduce(model, way, layout=given.layout), spliced(model, given):
        model(**given.inputs)
    handle.remove()
    assert blocks[SHARED].attention is not None and len(way.stage.scores) == len(weights) == 1
    torch.testing.assert_close(way.stage.scores[0], weights[0], atol=1e-5, rtol=1e-4)
