"""The same tasks dense and reduced through lmms-eval, and the difference question by question."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from framefusion.errors import HarnessError
from framefusion.installed import versions_of
from framefusion.integrations.lmms.half import RUN, result_file
from framefusion.integrations.lmms.options import DENSE
from framefusion.integrations.lmms.paired import compare, score_of
from framefusion.integrations.lmms_eval import find

PACKAGES = ("framefusion", "lmms-eval", "transformers", "torch")

PREFIX = "avg_framefusion_"
HALF = "framefusion.integrations.lmms.half"


@dataclass(frozen=True)
class Request:
    """What both halves have in common. model: id of lmms-eval or ours. limit: questions per task, None for all."""

    model: str
    model_args: str
    tasks: tuple[str, ...]
    batch_size: int = 1
    limit: int | None = None
    gen_kwargs: str | None = None
    include_path: str | None = None


def run_pair(
    request: Request,
    method: dict[str, Any],
    out: Path,
    fresh: bool = False,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Run what is missing of both halves below `out`, and compare them.

    method: "method" and its options, as they would stand in `--model_args`. fresh: run again what is there. A half is
    found again by everything that could change it: the request, the method, the task files and the versions in use.

    Raises HarnessError and UnknownNameError.
    """
    if find_spec("lmms_eval") is None:
        raise HarnessError("lmms-eval is not installed", hint="pip install 'framefusion[lmms]'")
    find(request.model)
    halves = {}
    for name, options in (("dense", {"method": DENSE[0]}), ("reduced", method)):
        folder = _folder(request, options, out)
        _run_half(name, folder, request, options, fresh, tell)
        halves[name] = {task: _read(result_file(folder, task)) for task in request.tasks}
    return comparison(halves["dense"], halves["reduced"]) | {
        "model": request.model,
        "model_args": request.model_args,
        "method": method,
        "limit": request.limit,
        "versions": versions_of(*PACKAGES),
    }


def _folder(request: Request, options: dict[str, Any], out: Path) -> Path:
    more = {"tasks": None, "method": options, "versions": versions_of(*PACKAGES), "files": _digest(request)}
    parts = asdict(request) | more
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    return out / f"{find(request.model)[1]}-{options['method']}-{key}"


def _digest(request: Request) -> str | None:
    """Of the task files of the user's own folder; what they point at is not looked into."""
    if request.include_path is None:
        return None
    sum_ = hashlib.sha256()
    for path in sorted(Path(request.include_path).rglob("*")):
        if path.suffix in (".yaml", ".py", ".json", ".jsonl", ".csv") and path.is_file():
            sum_.update(path.read_bytes())
    return sum_.hexdigest()


def _run_half(
    name: str, folder: Path, request: Request, options: dict[str, Any], fresh: bool, tell: Callable[[str], None]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        for task in request.tasks:
            result_file(folder, task).unlink(missing_ok=True)
    missing = [task for task in request.tasks if not result_file(folder, task).exists()]
    done = len(request.tasks) - len(missing)
    tell(
        f"{name}: {done} of {len(request.tasks)} tasks are in {folder}" + (f", running {missing[0]}" if missing else "")
    )
    if not missing:
        return
    (folder / RUN).write_text(json.dumps(asdict(request) | {"method": options}, indent=1), encoding="utf-8")
    # All it says goes to stderr: stdout belongs to the comparison.
    code = subprocess.run([sys.executable, "-m", HALF, str(folder)], check=False, stdout=2).returncode
    if code or not all(result_file(folder, task).exists() for task in request.tasks):
        raise HarnessError(
            f"the {name} half ended with exit code {code}",
            "its own words are above",
            f"what is finished stays in {folder}; the same command goes on from there",
        )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def comparison(dense: dict[str, Any], reduced: dict[str, Any]) -> dict[str, Any]:
    """dense, reduced: by task asked for, what `half` left. A group of tasks gives one row per member."""
    rows, pool = [], ([], [])  # type: tuple[list[dict[str, Any]], tuple[list[float], list[float]]]
    for asked in dense:
        for row, before, after in _rows(dense[asked], reduced[asked]):
            rows.append(row)
            pool[0].extend(before)
            pool[1].extend(after)
    numbers = {name: _efficiency(half) for name, half in (("dense", dense), ("reduced", reduced))}
    medians = [numbers[name].get("prefill_ms_median") for name in ("dense", "reduced")]
    return {
        "tasks": rows,
        "all": asdict(compare(*pool)) if pool[0] and len(rows) > 1 else None,
        "dense": numbers["dense"],
        "reduced": numbers["reduced"],
        "prefill_ratio": medians[0] / medians[1] if medians[0] and medians[1] else None,
    }


def _rows(dense: dict[str, Any], reduced: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[float], list[float]]]:
    for task, samples in dense["samples"].items():
        others = {(row["doc_id"], row["doc_hash"]): row for row in reduced["samples"].get(task, [])}
        pairs = [(row, others[key]) for row in samples if (key := (row["doc_id"], row["doc_hash"])) in others]
        for metric in sorted({name for row in samples for name in row["metrics"]}):
            scores = [(score_of(a["metrics"].get(metric)), score_of(b["metrics"].get(metric))) for a, b in pairs]
            whole = [(a, b) for a, b in scores if a is not None and b is not None]
            before, after = [a for a, _ in whole], [b for _, b in whole]
            row = {
                "task": task,
                "metric": metric,
                "dense": _reported(dense, task, metric),
                "reduced": _reported(reduced, task, metric),
                "unpaired": len(samples) - len(whole),
                "paired": asdict(compare(before, after)) if whole else None,
            }
            yield row, before, after


def _reported(half: dict[str, Any], task: str, metric: str) -> Any:
    """lmms-eval's own score: keyed by metric and filter."""
    found = half["results"].get(task, {})
    return next((value for key, value in found.items() if key.split(",")[0] == metric), None)


def _efficiency(half: dict[str, Any]) -> dict[str, float]:
    """Means over tasks, weighted by their prompts; counts are summed."""
    logged = [
        {key.removeprefix(PREFIX): value for key, value in task["throughput"].items() if key.startswith(PREFIX)}
        for task in half.values()
    ]
    total = sum(task.get("prompts", 0.0) for task in logged)
    names = {name for task in logged for name in task}
    return {
        name: sum(task.get(name, 0.0) for task in logged)
        if name in ("prompts", "failed")
        else sum(task[name] * task["prompts"] for task in logged if name in task)
        / sum(task["prompts"] for task in logged if name in task)
        for name in sorted(names)
        if total
    }
