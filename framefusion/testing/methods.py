"""The contract every method keeps, as checks for whoever writes one, here or elsewhere.

`for check in CHECKS.values(): check(MyMethod)` needs no model: a synthetic prompt row walks through the stages.
`check_batch_equals_rows` and `check_text_is_untouched` take a small model and its inputs. All raise AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import PATCH, Geometry
from framefusion.core.method import Method, Point, Setting, after_attention, before
from framefusion.core.plan import GONE, Plan
from framefusion.core.registry import family_of
from framefusion.testing.rows import Row, contents, geometries, make_row, rows

if TYPE_CHECKING:
    from torch import nn

LAYERS = 28
DEPTHS = (4, 8, 16, 28, 32)
MEANINGLESS: tuple[Any, ...] = (float("nan"), float("inf"), "", "0.5", [], {}, torch.tensor(0.5), torch.tensor([1, 2]))


@dataclass(frozen=True)
class Walk:
    """What a method did to a row: its plans in order, and the row at the end."""

    plans: tuple[tuple[Point, Plan], ...]
    end: Row

    @property
    def kept(self) -> int:
        """Patches that are left. Newline tokens follow them, so their number may depend on content."""
        return int((self.end.geometry.kind == PATCH).sum())


def can_walk(cls: type[Method]) -> bool:
    """Whether all stages act on tokens of the prompt, before or after the projector; a synthetic row has no tower."""
    return all(stage.stream in ("features", "prompt") for stage in cls().stages())


def walk(method: Method, row: Row, layers: int = LAYERS) -> Walk:
    """Lead a row through all stages of a method, as the engine does in a model of so many `layers`, without a model."""
    stages = method.for_family(family_of(None)).stages()
    states = [stage.start(Setting(layers, row.geometry)) for stage in stages]
    wanted = [frozenset(stage.points(layers)) for stage in stages]
    plans = []
    for point in (p for layer in range(layers) for p in (before(layer), after_attention(layer))):
        for number, stage in enumerate(stages):
            if point not in wanted[number] or not len(row.geometry):
                continue
            plan, states[number] = stage.step(states[number], row.signals(point, stage.needs))
            if plan is not None:
                assert_valid(plan, len(row.geometry), row.name)
                plans.append((point, plan))
                row = row.after(plan)
    return Walk(tuple(plans), row)


def assert_valid(plan: Plan, count: int, name: str = "") -> None:
    """A plan over `count` tokens keeps order, loses track of nothing and leaves one at least. name: for messages."""
    assert plan.count == count and plan.owner.shape == (count,), f"{name}: a plan for another number of tokens"
    assert 1 <= plan.kept <= count, f"{name}: {plan.kept} of {count} tokens kept"
    assert bool((plan.keep.diff() > 0).all()), f"{name}: survivors out of order, or twice"
    assert int(plan.keep[0]) >= 0 and int(plan.keep[-1]) < count, f"{name}: survivors that do not exist"
    assert torch.equal(plan.owner[plan.keep], torch.arange(plan.kept)), f"{name}: a survivor that another stands for"
    assert bool(((plan.owner >= GONE) & (plan.owner < plan.kept)).all()), f"{name}: owners that do not exist"
    if plan.target is None or plan.source is None or plan.weight is None or plan.own is None:
        return
    assert plan.target.shape == plan.source.shape == plan.weight.shape, f"{name}: merge of unequal lists"
    assert plan.own.shape == (plan.kept,), f"{name}: own shares of another number of survivors"
    assert bool(plan.weight.isfinite().all() and plan.own.isfinite().all()), f"{name}: weights that are no numbers"
    assert bool(((plan.target >= 0) & (plan.target < plan.kept)).all()), f"{name}: merges into nothing"
    assert bool(((plan.source >= 0) & (plan.source < count)).all()), f"{name}: merges nothing"


def configurations(cls: type[Method]) -> list[Method]:
    """The defaults, and a small and a middling budget."""
    return [cls(), *(cls(**{cls.facts.budget: share}) for share in (0.2, 0.5))]


def check_facts(cls: type[Method]) -> None:
    """The facts are complete."""
    facts = cls.facts
    assert facts.name and facts.title and facts.summary and facts.stage, "a fact is empty"
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    assert facts.budget in names, f"the budget `{facts.budget}` is no option"
    assert set(facts.identity or ()) <= names, "the identity names options that do not exist"
    assert hash(cls()) == hash(cls()) and cls() == cls(), "equal options make unequal methods"


def check_identity(cls: type[Method]) -> None:
    """At the identity setting every token stays as it is, bit for bit."""
    if not cls.facts.identity:
        return
    for dtype in (torch.float32, torch.bfloat16):
        for row in rows(dtype=dtype):
            done = walk(cls(**cls.facts.identity), row)
            left = len(done.end.geometry)
            assert left == len(row.geometry), f"{row.name}: {left} of {len(row.geometry)} tokens left"
            assert torch.equal(done.end.hidden, row.hidden), f"{row.name}: values changed"


def check_count(cls: type[Method]) -> None:
    """If the count follows from geometry, no content and no text changes it, and a larger budget keeps no fewer."""
    if cls.facts.count != "geometry":
        return
    for layout, geometry in geometries().items():
        counts = []
        for method in [cls(**{cls.facts.budget: share}) for share in (0.1, 0.3, 0.6, 1.0)]:
            seen = {
                walk(method, make_row(layout, geometry, hidden, seed, words)).kept
                for seed, words in ((0, 6), (1, 3))
                for hidden in contents(geometry, seed).values()
            }
            assert len(seen) == 1, f"{layout}: {method} keeps {sorted(seen)} tokens, depending on content"
            counts.append(seen.pop())
        assert counts == sorted(counts), f"{layout}: larger budgets keep {counts}"


def check_order(cls: type[Method]) -> None:
    """Survivors keep their order, origin and place; a method that says it never merges does not."""
    for method in configurations(cls):
        for row in rows(kinds=("random", "duplicates")):
            done = walk(method, row)
            origin = torch.arange(len(row.geometry))
            for _, plan in done.plans:
                origin = origin[plan.keep]
                assert cls.facts.merges or not plan.merges, f"{row.name}: merges, against its facts"
            expected = row.geometry[origin]
            for field in fields(Geometry):
                assert torch.equal(getattr(expected, field.name), getattr(done.end.geometry, field.name)), row.name
            if not cls.facts.merges:
                assert torch.equal(row.hidden[origin], done.end.hidden), f"{row.name}: values changed"


def check_determinism(cls: type[Method]) -> None:
    """The same row gives the same plans, whatever came in between."""
    for method in configurations(cls):
        kinds = ("random", "duplicates")
        for row, other in zip(rows(kinds=kinds), rows(seed=1, kinds=kinds), strict=True):
            first = walk(method, row)
            walk(method, other)
            _assert_same(first, walk(method, row), row.name)


def _assert_same(one: Walk, two: Walk, name: str) -> None:
    assert [point for point, _ in one.plans] == [point for point, _ in two.plans], f"{name}: other points"
    for (_, a), (_, b) in zip(one.plans, two.plans, strict=True):
        assert torch.equal(a.keep, b.keep) and torch.equal(a.owner, b.owner), f"{name}: other tokens"
    assert torch.equal(one.end.hidden, two.end.hidden), f"{name}: other values"


def check_inputs_are_left_alone(cls: type[Method]) -> None:
    """No tensor a stage was given changes."""
    for method in configurations(cls):
        for row in rows(kinds=("random", "some zeros")):
            before_ = {name: tensor.clone() for name, tensor in row.tensors().items()}
            walk(method, row)
            for name, tensor in row.tensors().items():
                assert torch.equal(tensor, before_[name]), f"{row.name}: `{name}` was changed"


def check_values(cls: type[Method], dtype: torch.dtype = torch.float32) -> None:
    """Duplicates, equal tokens, zero vectors and odd layouts give plans and finite values of the same dtype."""
    for method in configurations(cls):
        for row in rows(dtype=dtype):
            end = walk(method, row).end
            assert end.hidden.dtype == dtype and bool(end.hidden.isfinite().all()), f"{row.name}: broken values"
            assert bool(end.size.isfinite().all()) and float(end.size.sum()) <= len(row.geometry), row.name


def check_half_precision(cls: type[Method]) -> None:
    """As `check_values`, in bfloat16 and float16."""
    check_values(cls, torch.bfloat16)
    check_values(cls, torch.float16)


def check_options(cls: type[Method]) -> None:
    """What no option means, and values outside its range, raise OptionError, at the latest when a prompt starts."""
    budget, names = cls.facts.budget, {field.name for field in fields(cls)}  # type: ignore[arg-type]
    bad: list[dict[str, Any]] = [{name: value} for name in sorted(names) for value in MEANINGLESS]
    bad += [{budget: -2.0}]
    if budget == "keep":
        bad += [{budget: value} for value in (0, 0.0, -1, 1.5, True)]
    if "layer" in names:
        bad += [{"layer": -1}, {"layer": LAYERS}]
    setting = Setting(LAYERS, Geometry.grid(2, 2, 2))
    for options in bad:
        try:
            for stage in cls(**options).stages():
                stage.start(setting)
        except OptionError:
            continue
        raise AssertionError(f"{cls.__name__} takes {options}")


CHECKS: Mapping[str, Callable[[type[Method]], None]] = {
    "facts": check_facts,
    "identity": check_identity,
    "count": check_count,
    "order": check_order,
    "determinism": check_determinism,
    "inputs_are_left_alone": check_inputs_are_left_alone,
    "values": check_values,
    "half_precision": check_half_precision,
    "options": check_options,
}
"""Checks of a method class that need no model. All but `facts` and `options` need `can_walk`."""


def layers_needed(method: Method) -> int:
    """Depth of the smallest model, of a few usual depths, that has all layers the method names."""
    for layers in DEPTHS:
        try:
            for stage in method.stages():
                stage.start(Setting(layers, Geometry.grid(2, 2, 2)))
        except OptionError:
            continue
        return layers
    raise AssertionError(f"{method} starts on no model of {DEPTHS} layers")


@torch.no_grad()
def check_batch_equals_rows(
    method: Method, model: nn.Module, batch: Mapping[str, Any], alone: Sequence[Mapping[str, Any]], tokens: int = 4
) -> None:
    """A left-padded batch keeps the tokens and gives the answers that its rows do alone.

    Args:
        method: at work while both are read.
        model: which is restored afterwards.
        batch: inputs of several prompts, padded on the left.
        alone: inputs of each of them, in the same order.
        tokens: number of tokens to generate.
    """
    from framefusion.inference.reduction import reduce

    options = {"max_new_tokens": tokens, "do_sample": False}
    with reduce(model, method) as reduction:
        together = model.generate(**batch, **options)[:, -tokens:].tolist()  # type: ignore[operator]
        kept = reduction.report.surviving_columns
        width = batch["input_ids"].shape[1]
        for number, row in enumerate(alone):
            answer = model.generate(**row, **options)[0, -tokens:].tolist()  # type: ignore[operator]
            shift = width - row["input_ids"].shape[1]
            expected = [column + shift for column in reduction.report.surviving_columns[0]]
            assert kept[number] == expected, f"row {number} keeps other tokens than alone"
            assert together[number] == answer, f"row {number} answers otherwise than alone"


@torch.no_grad()
def check_text_is_untouched(method: Method, model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """When `model` reads `inputs` with `method`, every text token is there after the last layer, in order."""
    from framefusion.inference.reduction import reduce

    with reduce(model, method) as reduction:
        model(**inputs)
    layout = reduction.report.layout
    assert layout is not None, "the prompt has no visual tokens"
    for number, (kept, (_, placement)) in enumerate(zip(reduction.report.surviving_columns, layout.rows, strict=True)):
        real = set(inputs["attention_mask"][number].nonzero().flatten().tolist())
        text = real - set(placement.columns.tolist())
        assert kept == sorted(set(kept)), f"row {number}: columns out of order"
        assert text <= set(kept) <= real, f"row {number}: text was dropped, or padding kept"
