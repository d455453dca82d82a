"""Fill the cells of a study, or as many as are missing, and make its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from framefusion.evaluation import fingerprint
from framefusion.evaluation.answers import Yardstick
from framefusion.evaluation.cells import DENSE
from framefusion.evaluation.comparison import PROBE_SEED, PROBES, Asked, Count, check_samples, chosen_kinds
from framefusion.evaluation.context import ComparisonContext, Watcher
from framefusion.evaluation.records import Records, default_path
from framefusion.evaluation.runner import Arm, Asking, answer_all
from framefusion.evaluation.study.grid import Grid
from framefusion.evaluation.study.rows import Row, row_of
from framefusion.inference.quantization.attention import check_rows

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.quantization.precision import Precision

SAMPLES = 240


@dataclass(frozen=True)
class Study:
    """Rows of all cells, the dense model at the widest precision first.

    seed, chance (accuracy of guessing): None where the questions are others' and nobody says. notes: what a reader
    should know. records: file of answers, or the folder they are in, None if kept in memory.
    """

    model: str
    samples: int
    seed: int | None
    chance: float | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    records: Path | None


@dataclass(frozen=True)
class _Place:
    """A cell of the grid: a method's label at a budget, in a precision."""

    label: str
    budget: float
    precision: Precision
    arm: Arm


def study(
    checkpoint: Checkpoint,
    grid: Grid,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    calibrated: bool = False,
    asking: Asking | None = None,
    records: Records | Path | None = None,
    yardstick: Yardstick | None = None,
    watch: Watcher | None = None,
) -> Study:
    """Ask the same questions in every cell of `grid`, and compare each with the dense model at the widest precision.

    A method gets the budget that costs as much as asked for, measured on the model as it was loaded, and keeps it in
    every precision. Arguments are those of `framefusion.evaluation.evaluate`.

    Raises, before anything is asked, what `quantize` and `new_cache` raise for a precision of the grid.
    """
    ground: Yardstick = yardstick or import_module("framefusion.evaluation.synthetic_questions")
    chosen = chosen_kinds(kinds, ground)
    check_samples(samples, seed, chosen, ground)
    asking = asking or Asking(share_tower=all(one.simulated or one.full for one in grid.precisions()))
    check_rows(grid.precisions(), asking.batch)
    weights, notes = _weight_bytes(checkpoint, grid.precisions())
    context = ComparisonContext(
        checkpoint, asking, fingerprint.of_checkpoint(checkpoint), watch or (lambda what, done, total: None)
    )
    store = records if isinstance(records, Records) else Records(records or _default_file(checkpoint, context))
    probes = [asking.prompt(checkpoint, question) for question in ground.samples(PROBES, PROBE_SEED, chosen)]
    methods = context.calibrated(grid.methods, probes) if calibrated else list(grid.methods)
    reduced = _matched(context, methods, grid.fractions, probes)
    places = _places(context, grid, reduced)
    asked = Asked(ground.samples(samples, seed, chosen))
    arms = [place.arm for place in places]
    answer_all(checkpoint, arms, asked, store, asking, Count(context.watch, samples * len(arms)))
    return Study(
        model=checkpoint.name,
        samples=len(asked.names),
        seed=seed,
        chance=sum(ground.chance(kind) for _, kind in asked.names) / len(asked.names),
        rows=tuple(_rows(places, weights, store, asked.names, asking)),
        notes=tuple(dict.fromkeys([*context.notes, *grid.impossible, *notes, *store.notes])),
        records=store.path,
    )


def _default_file(checkpoint: Checkpoint, context: ComparisonContext) -> Path:
    path = default_path(checkpoint.name, context.weights)
    return path.with_name(f"study-{path.name}")


def _matched(
    context: ComparisonContext, methods: Sequence[Method], budgets: Sequence[float], probes: Sequence[object]
) -> list[tuple[str, float, Method]]:
    found: list[tuple[str, float, Method]] = []
    steps = len(methods) * len(budgets)
    for method in methods:
        for budget in budgets:
            context.watch("matching costs", len(found), steps)
            found.append((method.facts.name, budget, context.matched(method, budget, probes)))
    return found


def _places(context: ComparisonContext, grid: Grid, reduced: Iterable[tuple[str, float, Method]]) -> list[_Place]:
    """Precision by precision, so that the model is quantised as rarely as possible; the widest is the first."""
    arms: list[tuple[str, float, Method | None]] = [(DENSE, 1.0, None), *reduced]
    return [
        _Place(label, budget, precision, context.arm(method, precision))
        for precision in grid.in_order()
        for label, budget, method in arms
    ]


def _weight_bytes(
    checkpoint: Checkpoint, precisions: Iterable[Precision]
) -> tuple[dict[Precision, tuple[float, bool]], list[str]]:
    """By what is done to the model: bytes of its weights, and whether times mean anything.

    Does each once, so that a missing library or kernel is found before anything is asked.
    """
    from framefusion.inference.quantization.apply import quantize
    from framefusion.inference.quantization.cache import new_cache

    found: dict[Precision, tuple[float, bool]] = {}
    notes: list[str] = []
    for precision in precisions:
        new_cache(checkpoint.model, precision)
        if precision.without_cache not in found:
            with quantize(checkpoint.model, precision.without_cache) as quantised:
                found[precision.without_cache] = quantised.weight_bytes(), quantised.fast
                notes += quantised.notes
    return found, notes


def _rows(
    places: Sequence[_Place],
    weights: dict[Precision, tuple[float, bool]],
    store: Records,
    names: Sequence[tuple[int, str]],
    asking: Asking,
) -> Iterable[Row]:
    reference = [store.get(places[0].arm.cell, name) for name in names]
    for place in places:
        answers = [store.get(place.arm.cell, name) for name in names]
        size, fast = weights[place.precision.without_cache]
        timed = fast and not place.precision.simulated and not asking.share_tower
        yield row_of(place.label, place.budget, place.precision, answers, reference, size, timed)
