"""The same tasks dense and reduced through lmms-eval, and the difference question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framefusion.core.installed import versions_of
from framefusion.inference.quantization.precision import Precision
from framefusion.integrations.lmms.harness import PACKAGES, Request, Results, check, logged, run, scores_of
from framefusion.integrations.lmms.options import DENSE
from framefusion.integrations.lmms.paired import compare


def run_pair(
    request: Request,
    method: dict[str, Any],
    out: Path,
    fresh: bool = False,
    tell: Callable[[str], None] = lambda message: None,
    quantize: Precision | None = None,
    quantize_dense: Precision | None = None,
) -> dict[str, Any]:
    """Run what is missing of both halves below `out`, and compare them.

    method: "method" and its options, as they would stand in `--model_args`. fresh: run again what is there. quantize,
    quantize_dense: bits of the reduced and of the dense half. A half is found again by everything that could change
    it: the request, the method, its bits, the task files and the versions in use.

    Raises HarnessError and UnknownNameError.
    """
    check(request)
    ways = {
        "dense": options_of({"method": DENSE[0]}, quantize_dense),
        "reduced": options_of(method, quantize),
    }
    halves = {name: run(f"the {name} half", request, options, out, fresh, tell) for name, options in ways.items()}
    return comparison(halves["dense"], halves["reduced"]) | {
        "model": request.model,
        "model_args": request.model_args,
        "method": method,
        "quantize": {name: options.get("quantize") for name, options in ways.items()},
        "limit": request.limit,
        "versions": versions_of(*PACKAGES),
    }


def options_of(method: Mapping[str, Any], precision: Precision | None) -> dict[str, Any]:
    """Arguments of our model classes. method: "method" and its options."""
    return dict(method) if precision is None or precision.full else {**method, "quantize": str(precision)}


def comparison(dense: Results, reduced: Results) -> dict[str, Any]:
    """A row per task and metric; a group of tasks gives rows for each member."""
    rows, pool = [], ([], [])  # type: tuple[list[dict[str, Any]], tuple[list[float], list[float]]]
    for asked in dense:
        for row, before, after in _rows(dense[asked], reduced[asked]):
            rows.append(row)
            pool[0].extend(before)
            pool[1].extend(after)
    numbers = {name: logged(half) for name, half in (("dense", dense), ("reduced", reduced))}
    medians = [numbers[name].get("prefill_ms_median") for name in ("dense", "reduced")]
    return {
        "tasks": rows,
        "all": asdict(compare(*pool)) if pool[0] and len(rows) > 1 else None,
        "dense": numbers["dense"],
        "reduced": numbers["reduced"],
        "prefill_ratio": medians[0] / medians[1] if medians[0] and medians[1] else None,
    }


def _rows(dense: dict[str, Any], reduced: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[float], list[float]]]:
    found, others = scores_of(dense), scores_of(reduced)
    for (task, metric), scores in found.items():
        theirs = others.get((task, metric), {})
        pairs = [(score, theirs.get(key)) for key, score in scores.items()]
        whole = [(a, b) for a, b in pairs if a is not None and b is not None]
        before, after = [a for a, _ in whole], [b for _, b in whole]
        row = {
            "task": task,
            "metric": metric,
            "dense": _reported(dense, task, metric),
            "reduced": _reported(reduced, task, metric),
            "unpaired": len(scores) - len(whole),
            "paired": asdict(compare(before, after)) if whole else None,
        }
        yield row, before, after


def _reported(half: dict[str, Any], task: str, metric: str) -> Any:
    """lmms-eval's own score: keyed by metric and filter."""
    found = half["results"].get(task, {})
    return next((value for key, value in found.items() if key.split(",")[0] == metric), None)
