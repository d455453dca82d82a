"""One half of a comparison, or one cell of a study, in a process of its own.

`python -m framefusion.integrations.lmms.worker FOLDER`: FOLDER/run.json says what to run. Every task leaves
FOLDER/<task>.json; those that are there are not run again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from framefusion.core.destination import put
from framefusion.core.errors import FrameFusionError, HarnessError, UnknownNameError
from framefusion.core.text import visible
from framefusion.integrations.lmms_eval import find

RUN = "run.json"
WRONG_USE = 2


def run(folder: Path) -> None:
    """Run every task that has left no result yet."""
    from lmms_eval.tasks import TaskManager

    asked = json.loads((folder / RUN).read_text(encoding="utf-8"))
    wrapper, builtin = find(asked["model"])
    # lmms-eval's own id, because a task may word its prompts by it, and both halves shall read what the field reads.
    manager = TaskManager("WARNING", include_path=asked["include_path"], model_name=builtin)
    unknown = [task for task in asked["tasks"] if not manager.match_tasks([task])]
    if unknown:
        hint = "`lmms-eval tasks list` names all; --include-path adds a folder of your own"
        raise UnknownNameError(f"lmms-eval has no task `{unknown[0]}`", hint=hint)
    model = None
    for task in asked["tasks"]:
        if read_result(folder, task) is not None:
            continue
        model = model or _model(wrapper.class_name("chat" if wrapper.chat else "simple"), asked)
        _write(result_file(folder, task), _evaluate(model, task, manager, asked) | {"setup": model.setup})


def result_file(folder: Path, task: str) -> Path:
    return folder / f"{task.replace('/', '_')}.json"


def read_result(folder: Path, task: str) -> dict[str, Any] | None:
    """What a run has left of a task; None where there is nothing, or something damaged, which a run replaces."""
    try:
        found = json.loads(result_file(folder, task).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    parts = [found.get(name) for name in ("results", "samples", "throughput", "setup")]
    if not all(isinstance(part, dict) for part in parts[:3]) or not isinstance(parts[3], dict | None):
        return None
    lists = [rows if isinstance(rows, list) else [None] for rows in found["samples"].values()]
    rows: list[Any] = [row for rows in lists for row in rows]
    whole = all(isinstance(row, dict) and {"doc_id", "doc_hash"} <= row.keys() for row in rows)
    whole = whole and all(isinstance(row.get("metrics"), dict) for row in rows)
    return found if whole and all(isinstance(part, dict) for part in found["results"].values()) else None


def _model(name: str, asked: dict[str, Any]) -> Any:
    from lmms_eval.utils import simple_parse_args_string

    from framefusion.integrations.lmms import wrappers

    arguments = simple_parse_args_string(asked["model_args"])
    return getattr(wrappers, name)(**arguments, batch_size=asked["batch_size"], **asked["method"])


def _evaluate(model: Any, task: str, manager: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Results of one task, without what the comparison does not need."""
    from lmms_eval.evaluator import simple_evaluate

    found = simple_evaluate(
        model=model,
        tasks=[task],
        task_manager=manager,
        limit=asked["limit"],
        gen_kwargs=asked["gen_kwargs"],
        bootstrap_iters=0,
        log_samples=True,
        verbosity="WARNING",
    )
    samples = {
        name: [_sample(row, _metrics(found["configs"][name])) for row in rows]
        for name, rows in found["samples"].items()
    }
    return {
        "results": found["results"],
        "throughput": found.get("throughput", {}),
        "samples": samples,
        "lmms_eval": found.get("lmms_eval_version"),
    }


def _metrics(config: dict[str, Any]) -> list[str]:
    return [str(metric["metric"]) for metric in config.get("metric_list") or []]


def _sample(row: dict[str, Any], metrics: list[str]) -> dict[str, Any]:
    kept = {"doc_id": row["doc_id"], "doc_hash": row["doc_hash"], "answer": row["filtered_resps"]}
    return kept | {"metrics": {name: row[name] for name in metrics if name in row}}


def _write(path: Path, data: dict[str, Any]) -> None:
    """Whole or not at all."""
    put(path, json.dumps(data, indent=1, default=str).encode(), HarnessError)


def main() -> int:
    try:
        run(Path(sys.argv[1]))
    except FrameFusionError as error:
        sys.stderr.write(f"{type(error).__name__}: {visible(error)}\n")
        return WRONG_USE
    return 0


if __name__ == "__main__":
    sys.exit(main())
