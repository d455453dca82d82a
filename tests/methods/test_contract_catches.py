"""Every check of `framefusion.testing.methods` fails for a method that breaks what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage
from framefusion.methods.random import Random
from framefusion.testing.methods import (
    CHECKS,
    assert_valid,
    can_walk,
    check_batch_equals_rows,
    check_text_is_untouched,
    make_row,
    walk,
)
from tests.support.selection import model_of
from tests.support.tiny import moving_clip, prompt

GOOD = Random.facts


@dataclass(frozen=True)
class Base(Random):
    """Random with its facts, save that it may look at hidden states; subclasses spoil one thing each."""

    facts: ClassVar[MethodFacts] = GOOD

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(self.layer), self.decide),)


@dataclass(frozen=True)
class Unexplained(Base):
    facts = replace(GOOD, summary="")


@dataclass(frozen=True)
class NeverIdentity(Base):
    def decide(self, signals: Signals) -> Plan:
        return Plan.select(torch.arange(1), len(signals))


@dataclass(frozen=True)
class CountsContent(Base):
    def decide(self, signals: Signals) -> Plan:
        wanted = kept_count(self.keep, len(signals))
        return Plan.select(torch.arange(max(wanted, int(1 + (signals.hidden()[:, 0] > 0).sum()))), len(signals))


@dataclass(frozen=True)
class Merges(Base):
    def decide(self, signals: Signals) -> Plan:
        index = torch.arange(len(signals))
        first = index < kept_count(self.keep, len(signals))
        return Plan.merge(torch.where(first, index, 0), signals.size)


COIN = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Dice(Base):
    def decide(self, signals: Signals) -> Plan:
        lot = torch.randperm(len(signals), generator=COIN)
        return Plan.select(lot[: kept_count(self.keep, len(signals))], len(signals))


@dataclass(frozen=True)
class WritingStage(DecoderStage):
    def step(self, state: None, signals: Signals) -> tuple[Plan | None, None]:
        signals.hidden().mul_(2)
        return super().step(state, signals)


@dataclass(frozen=True)
class Writes(Base):
    def stages(self) -> tuple[Stage, ...]:
        return (WritingStage(before(self.layer), self.decide),)


@dataclass(frozen=True)
class DividesByNorm(Base):
    facts = replace(GOOD, merges=True)

    def decide(self, signals: Signals) -> Plan:
        plan = Plan.merge(torch.zeros(len(signals), dtype=torch.long), signals.size)
        return plan if plan.own is None else replace(plan, own=plan.own / signals.hidden()[:1].norm())


@dataclass(frozen=True)
class NoHalf(Base):
    def decide(self, signals: Signals) -> Plan:
        torch.ones(signals.hidden().shape[1]) @ signals.hidden().T
        return super().decide(signals)


@dataclass(frozen=True)
class TakesAnything(Base):
    def __post_init__(self) -> None:
        pass


BROKEN: dict[str, type[Method]] = {
    "facts": Unexplained,
    "identity": NeverIdentity,
    "count": CountsContent,
    "order": Merges,
    "determinism": Dice,
    "inputs_are_left_alone": Writes,
    "values": DividesByNorm,
    "half_precision": NoHalf,
    "options": TakesAnything,
}


@pytest.mark.parametrize("check", list(CHECKS))
def test_a_broken_method_is_caught(check: str) -> None:
    CHECKS[check](Base)
    with pytest.raises((AssertionError, RuntimeError)):
        CHECKS[check](BROKEN[check])


def test_a_stage_sees_only_what_it_declared() -> None:
    row = make_row("", Geometry.grid(2, 2, 2), torch.ones(8, 16))
    with pytest.raises(AssertionError, match="hidden"):
        row.signals(before(1), frozenset()).hidden()
    with pytest.raises(AssertionError, match="keys"):
        row.signals(before(1), frozenset({"hidden"})).keys()
    assert row.signals(before(1), frozenset({"keys"})).keys().shape == (8, 2, 8)
    assert not row.signals(before(0), frozenset({"attention"})).has_attention


def plans() -> Iterator[tuple[str, Plan]]:
    good = Plan.select(torch.tensor([1, 3]), 5)
    yield "another number", replace(good, count=4)
    yield "out of order", replace(good, keep=torch.tensor([3, 1]))
    yield "0 of 5", Plan(5, torch.zeros(0, dtype=torch.long), torch.full((5,), -1))
    yield "do not exist", replace(good, keep=torch.tensor([3, 7]))
    yield "stands for", replace(good, owner=torch.zeros(5, dtype=torch.long))
    merging = Plan.merge(torch.tensor([0, 0, 2, 2, 4]), torch.ones(5))
    yield "no numbers", replace(merging, own=torch.full((3,), float("nan")))
    yield "merges into nothing", replace(merging, target=torch.tensor([0, 3]))


@pytest.mark.parametrize(("words", "plan"), [pytest.param(*case, id=case[0]) for case in plans()])
def test_a_bad_plan_is_named(words: str, plan: Plan) -> None:
    with pytest.raises(AssertionError, match=words):
        assert_valid(plan, 5)


@dataclass(frozen=True)
class Remembers(Method):
    """Keeps other tokens of every further row it sees."""

    seen: list[int] = field(default_factory=lambda: [0])
    facts: ClassVar[MethodFacts] = GOOD

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        self.seen[0] += 1
        return Plan.select(torch.arange(self.seen[0]), len(signals))


def test_rows_that_differ_from_their_batch_are_caught() -> None:
    clip = ("video", moving_clip(change=1.0))
    short, long = [clip, ("text", "?")], [clip, ("text", "what is this?")]
    alone = [prompt("qwen3_vl", [row]) for row in (short, long)]
    batch = prompt("qwen3_vl", [short, long])
    check_batch_equals_rows(Random(0.5), model_of("qwen3_vl"), batch, alone)
    with pytest.raises(AssertionError, match="other tokens than alone"):
        check_batch_equals_rows(Remembers(), model_of("qwen3_vl"), batch, alone)
    check_text_is_untouched(Random(0.5), model_of("qwen3_vl"), batch)


def test_methods_that_act_inside_the_tower_cannot_walk() -> None:
    @dataclass(frozen=True)
    class InTheTower(DecoderStage):
        stream: ClassVar = "vision"

    @dataclass(frozen=True)
    class Early(Base):
        def stages(self) -> tuple[Stage, ...]:
            return (InTheTower(before(0), self.decide),)

    assert can_walk(Base) and not can_walk(Early)


def test_a_walk_reports_every_plan() -> None:
    row = make_row("", Geometry.grid(2, 2, 2), torch.ones(8, 16))
    done = walk(Random(0.5, layer=3), row)
    assert [str(point) for point, _ in done.plans] == ["before layer 3"] and done.kept == 4
