"""A method that decides at random: it puts the engine through plans that no published method would make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from framefusion.core.method import (
    Method,
    MethodFacts,
    Point,
    Scope,
    Setting,
    Signals,
    Stage,
    Stream,
    after_attention,
    before,
)
from framefusion.core.plan import GONE, Plan


def random_plan(count: int, draw: torch.Generator, kept: float = 0.7, joined: float = 0.6) -> Plan:
    """About `kept` of the tokens stay (at least one), about `joined` of the others merge into some survivor."""
    stays = torch.rand(count, generator=draw) < kept
    stays[int(torch.randint(count, (1,), generator=draw))] = True
    keep = stays.nonzero().flatten()
    owner = torch.full((count,), GONE)
    owner[keep] = torch.arange(len(keep))
    source = (~stays & (torch.rand(count, generator=draw) < joined)).nonzero().flatten()
    if len(source) == 0:
        return Plan(count, keep, owner)
    target = torch.randint(len(keep), (len(source),), generator=draw)
    owner[source] = target
    weight = torch.rand(len(source), generator=draw) / len(source)
    own = torch.ones(len(keep)).index_add(0, target, -weight)
    return Plan(count, keep, owner, target, source, weight, own)


@dataclass(frozen=True)
class Scripted(Method):
    """Random plans at every point of the first `depth` layers. A row's plans depend on its own tokens only.

    seed: of the plans. kept: share of the tokens that stays at each point.
    """

    seed: int = 0
    kept: float = 0.8
    depth: int = 3

    facts: ClassVar[MethodFacts] = MethodFacts(
        "scripted", "Scripted", "", "decides at random", "everywhere", False, "geometry", True
    )

    def stages(self) -> tuple[Stage, ...]:
        return (RandomStage(self),)


@dataclass(frozen=True)
class RandomStage:
    method: Scripted

    stream: ClassVar[Stream] = "prompt"
    scope: ClassVar[Scope] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset()

    def points(self, layers: int) -> Iterable[Point]:
        depth = min(layers, self.method.depth)
        return (point for layer in range(depth) for point in (before(layer), after_attention(layer)))

    def start(self, setting: Setting) -> Any:
        return None

    def step(self, state: Any, signals: Signals) -> tuple[Plan | None, Any]:
        # Nothing but the row may enter the seed, else a batch could not equal its rows.
        point, tokens = signals.point, tuple(signals.geometry.patch.tolist())
        seed = hash((self.method.seed, point.layer, point.place == "before", tokens))
        plan = random_plan(len(signals), torch.Generator().manual_seed(seed % 2**31), self.method.kept)
        return plan, state
