"""The cells of a study through lmms-eval: each is a run of its own, kept on disk, and becomes a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import HarnessError, OptionError
from framefusion.core.installed import versions_of
from framefusion.evaluation.study.rows import Row, head_of, in_half, shares
from framefusion.evaluation.study.run import Study
from framefusion.integrations.lmms.compare import options_of
from framefusion.integrations.lmms.harness import PACKAGES, Request, Results, check, folder_of, logged, run, scores_of
from framefusion.integrations.lmms.options import DENSE
from framefusion.integrations.lmms.paired import against, mean_of

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.study.grid import Grid
    from framefusion.inference.quantization.precision import Precision

# By task asked for, its member and the metric; then by question.
Scores = dict[tuple[str, str, str], dict[tuple[Any, Any], float | None]]


@dataclass(frozen=True)
class _Cell:
    """options: of our model class, as they would stand in `--model_args`."""

    label: str
    budget: float
    precision: Precision
    options: Mapping[str, Any]

    @property
    def dense(self) -> bool:
        return self.label == DENSE[0]


@dataclass(frozen=True)
class _Ran:
    """What a cell left. numbers: as `logged` returns them. setup: of its first task."""

    cell: _Cell
    folder: str
    scores: Scores
    numbers: Mapping[str, float]
    setup: Mapping[str, Any]


@dataclass(frozen=True)
class _Question:
    """A question that every cell has a score for. kind: its task, with the metric where a task has several."""

    column: tuple[str, str, str]
    key: tuple[Any, Any]
    kind: str


def study(request: Request, grid: Grid, out: Path, tell: Callable[[str], None] = lambda message: None) -> Study:
    """Run lmms-eval's tasks in every cell of `grid`, and compare each with the dense model at the widest precision.

    A budget is set as it is, and the row's cost says what it came to. Cells that are below `out` are not run again;
    those of `run_pair` are the same. tell: called with what is being done.

    Raises HarnessError, OptionError and UnknownNameError.
    """
    check(request)
    if re.search(r"(^|,)\s*quantize=", request.model_args):
        raise OptionError("--model-args sets quantize, which is what the study varies", hint="use --weights and --kv")
    cells = _cells(grid)
    ran: dict[int, _Ran] = {}
    # Dense cells first: a precision that is not possible here should fail before anything long has run.
    for done, number in enumerate(sorted(range(len(cells)), key=lambda number: not cells[number].dense), 1):
        cell = cells[number]
        name = f"cell {done} of {len(cells)} ({head_of(cell.label, cell.budget, cell.precision)['id']})"
        results = run(name, request, cell.options, out, tell=tell)
        ran[number] = _ran(cell, folder_of(request, cell.options, out).name, results)
    return _study(request, grid, out, [ran[number] for number in range(len(cells))])


def _cells(grid: Grid) -> list[_Cell]:
    """Precision by precision, the dense model at the widest first."""
    reduced = [_reduced(method, budget) for method in grid.methods for budget in grid.fractions]
    ways: list[tuple[str, float, dict[str, Any]]] = [(DENSE[0], 1.0, {"method": DENSE[0]}), *reduced]
    return [
        _Cell(label, budget, precision, options_of(options, precision))
        for precision in grid.in_order()
        for label, budget, options in ways
    ]


def _reduced(method: Method, budget: float) -> tuple[str, float, dict[str, Any]]:
    facts = method.facts
    return facts.name, budget, {"method": facts.name, **method.with_budget(budget).options()}


def _ran(cell: _Cell, folder: str, results: Results) -> _Ran:
    scores = {
        (asked, *column): found for asked, result in results.items() for column, found in scores_of(result).items()
    }
    numbers = logged(results)
    if "cost" not in numbers:
        raise HarnessError(f"no prompt of {', '.join(results)} had visual tokens", hint="take tasks with pictures")
    return _Ran(cell, folder, scores, numbers, next(iter(results.values()))["setup"])


def _study(request: Request, grid: Grid, out: Path, ran: Sequence[_Ran]) -> Study:
    notes = [*grid.impossible]
    questions = list(_questions([one.scores for one in ran], notes))
    if not questions:
        raise HarnessError(
            "these tasks give no score per question between 0 and 1",
            "; ".join(notes),
            "`framefusion lmms-eval` compares what lmms-eval reports for them",
        )
    reference = _scores(ran[0], questions)
    rows = tuple(_row(one, questions, reference) for one in ran)
    for one, row in zip(ran, rows, strict=True):
        notes += one.setup["notes"]
        if one.numbers["failed"]:
            notes.append(f"{one.numbers['failed']:.0f} prompts of `{row.id}` failed and were scored as empty answers")
    pretrained = re.search(r"(?:^|,)\s*pretrained=([^,]+)", request.model_args)
    return Study(
        model=f"{pretrained[1]} through lmms-eval's {request.model}" if pretrained else request.model,
        samples=len(questions),
        seed=None,
        chance=None,
        rows=rows,
        notes=tuple(dict.fromkeys(notes)),
        records=out,
    )


def _questions(cells: Sequence[Scores], notes: list[str]) -> Iterator[_Question]:
    """Those that all cells have a score for, which must be an accuracy; what is left out goes to `notes`."""
    metrics = [task for _, task, _ in cells[0]]
    for column, found in cells[0].items():
        _, task, metric = column
        keys = [key for key in found if all(cell.get(column, {}).get(key) is not None for cell in cells)]
        values = [value for cell in cells for key in keys if (value := cell[column][key]) is not None]
        if not keys:
            notes.append(f"left out {metric} of {task}: it has no score per question")
        elif min(values) < 0 or max(values) > 1:
            notes.append(f"left out {metric} of {task}: from {min(values):g} to {max(values):g} it is no accuracy")
        else:
            if len(keys) < len(found):
                notes.append(
                    f"left out {len(found) - len(keys)} questions of {task}: some cell has no {metric} of them"
                )
            kind = task if metrics.count(task) == 1 else f"{task} {metric}"
            yield from (_Question(column, key, kind) for key in keys)


def _scores(ran: _Ran, questions: Sequence[_Question]) -> list[float]:
    return [float(ran.scores[question.column][question.key] or 0.0) for question in questions]


def _row(ran: _Ran, questions: Sequence[_Question], reference: Sequence[float]) -> Row:
    cell, numbers, scores = ran.cell, ran.numbers, _scores(ran, questions)
    timed = ran.setup["fast"] and not cell.precision.simulated

    def group(names: Sequence[str]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in names}
        for name, score in zip(names, scores, strict=True):
            found[name].append(score)
        return found

    return Row(
        **head_of(cell.label, cell.budget, cell.precision),
        cell=ran.folder,
        options={name: value for name, value in cell.options.items() if name not in ("method", "quantize")},
        questions=len(scores),
        accuracy=mean_of(scores),
        tasks={task: mean_of(part) for task, part in group([one.column[0] for one in questions]).items()},
        kinds={kind: fmean(part) for kind, part in group([one.kind for one in questions]).items()},
        halves=shares(scores, [one.kind for one in questions]),
        against=against(reference, scores),
        cost=numbers["cost"],
        kept=numbers["kept_fraction"],
        confidence=None,
        calibration_error=None,
        overconfidence=None,
        prompt_tokens=numbers["prompt_tokens"],
        weight_bytes=numbers["weight_bytes"],
        kv_bytes=numbers["kv_bytes"] * in_half(ran.setup["dtype"], cell.precision),
        prefill_ms=numbers["prefill_ms_median"] if timed else None,
        ms=numbers["ms_median"] if timed else None,
        origin={"dtype": ran.setup["dtype"], **versions_of(*PACKAGES)},
    )
