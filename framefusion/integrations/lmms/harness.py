"""One way to answer lmms-eval's tasks: run in a process of its own, kept on disk, and found again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from framefusion.core.destination import check_folder, put
from framefusion.core.errors import HarnessError
from framefusion.core.installed import versions_of
from framefusion.core.options import Count, checked, settle
from framefusion.integrations.lmms.paired import score_of
from framefusion.integrations.lmms.worker import RUN, read_result, result_file
from framefusion.integrations.lmms_eval import find

PACKAGES = ("framefusion", "lmms-eval", "transformers", "torch")
PREFIX = "avg_framefusion_"
WORKER = "framefusion.integrations.lmms.worker"
# Of what a half leaves; another number is another run.
FORMAT = 2

Results = dict[str, dict[str, Any]]
"""What `half` left, by task asked for."""


@dataclass(frozen=True)
class Request:
    """What all ways have in common. model: id of lmms-eval or ours. limit: questions per task, None for all."""

    model: str
    model_args: str
    tasks: tuple[str, ...]
    batch_size: Count = 1
    limit: Count | None = None
    gen_kwargs: str | None = None
    include_path: str | None = None

    def __post_init__(self) -> None:
        checked("tasks", tuple[str, ...], self.tasks, "name at least one, such as videomme")
        settle(self)


def check(request: Request) -> None:
    """Raises HarnessError without lmms-eval, UnknownNameError for a model that cannot be reduced."""
    if find_spec("lmms_eval") is None:
        raise HarnessError("lmms-eval is not installed", hint="pip install 'framefusion[lmms]'")
    find(request.model)


def folder_of(request: Request, options: Mapping[str, Any], out: Path) -> Path:
    """Named by everything that could change a result: the request, the options, the task files, versions in use."""
    more = {"tasks": None, "method": options, "versions": versions_of(*PACKAGES), "files": _digest(request)}
    parts = asdict(request) | more | {"format": FORMAT}
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


def run(
    name: str,
    request: Request,
    options: Mapping[str, Any],
    out: Path,
    fresh: bool = False,
    tell: Callable[[str], None] = lambda message: None,
) -> Results:
    """Results of all tasks; those that are below `out` already are not run again.

    name: for messages. options: "method" and the rest, as they would stand in `--model_args`. Raises HarnessError.
    """
    folder = folder_of(request, options, out)
    check_folder(folder, "--out", HarnessError)
    folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        for task in request.tasks:
            result_file(folder, task).unlink(missing_ok=True)
    missing = [task for task in request.tasks if read_result(folder, task) is None]
    done = len(request.tasks) - len(missing)
    tell(
        f"{name}: {done} of {len(request.tasks)} tasks are in {folder}" + (f", running {missing[0]}" if missing else "")
    )
    if missing:
        _run_missing(name, request, options, folder)
    return {task: found for task in request.tasks if (found := read_result(folder, task)) is not None}


def _run_missing(name: str, request: Request, options: Mapping[str, Any], folder: Path) -> None:
    asked = asdict(request) | {"method": dict(options)}
    put(folder / RUN, json.dumps(asked, indent=1).encode(), HarnessError)
    # All it says goes to stderr: stdout belongs to the comparison.
    code = subprocess.run([sys.executable, "-m", WORKER, str(folder)], check=False, stdout=2).returncode
    if code or any(read_result(folder, task) is None for task in request.tasks):
        raise HarnessError(
            f"{name} ended with exit code {code}",
            "its own words are above",
            f"what is finished stays in {folder}; the same command goes on from there",
        )


def scores_of(result: Mapping[str, Any]) -> dict[tuple[str, str], dict[tuple[Any, Any], float | None]]:
    """By task and metric the score of every question, by its number and content; None where it cannot be told.

    result: what `half` left of one task asked for. A group of tasks gives one entry per member.
    """
    return {
        (task, metric): {(row["doc_id"], row["doc_hash"]): score_of(row["metrics"].get(metric)) for row in samples}
        for task, samples in result["samples"].items()
        for metric in sorted({name for row in samples for name in row["metrics"]})
    }


def logged(results: Results) -> dict[str, float]:
    """Our numbers: means over tasks, weighted by their prompts; counts are summed."""
    tasks = [
        {key.removeprefix(PREFIX): value for key, value in task["throughput"].items() if key.startswith(PREFIX)}
        for task in results.values()
    ]
    total = sum(task.get("prompts", 0.0) for task in tasks)
    names = {name for task in tasks for name in task}
    return {
        name: sum(task.get(name, 0.0) for task in tasks)
        if name in ("prompts", "failed")
        else sum(task[name] * task["prompts"] for task in tasks if name in task)
        / sum(task["prompts"] for task in tasks if name in task)
        for name in sorted(names)
        if total
    }
