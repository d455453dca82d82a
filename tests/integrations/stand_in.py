"""Stands in for lmms-eval's process: what it leaves on disk, without a model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framefusion.integrations.lmms import harness as room


def left(task: str, scores: list[float], kept: float, prefill: float, **more: float) -> dict[str, Any]:
    """What one half leaves of a task."""
    rows = [{"doc_id": n, "doc_hash": str(n), "answer": "x", "metrics": {"acc": s}} for n, s in enumerate(scores)]
    logged = {"prompts": len(scores), "failed": 0, "kept_fraction": kept, "cost": kept, "prefill_ms_median": prefill}
    return {
        "results": {task: {"acc,none": sum(scores) / len(scores), "alias": task}},
        "throughput": {f"avg_framefusion_{name}": value for name, value in {**logged, **more}.items()}
        | {"avg_speed": 1.0},
        "samples": {task: rows},
    }


class Harness:
    """Runs tasks in their order until it is killed. options: of every run, as the child process reads them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[str, str]] = []
        self.options: list[dict[str, Any]] = []
        self.kill_after = 10**6
        monkeypatch.setattr(room, "find_spec", lambda name: object())
        monkeypatch.setattr(room, "subprocess", SimpleNamespace(run=self.run))

    def run(self, command: list[str], **kwargs: Any) -> Any:
        assert command[1:3] == ["-m", "framefusion.integrations.lmms.worker"]
        folder = Path(command[3])
        asked = json.loads((folder / "run.json").read_text())
        for task in asked["tasks"]:
            if (folder / f"{task}.json").exists():
                continue
            if len(self.ran) == self.kill_after:
                return subprocess.CompletedProcess(command, -9)
            self.ran.append((asked["method"]["method"], task))
            self.options.append(asked["method"])
            (folder / f"{task}.json").write_text(json.dumps(self.leaves(task, asked["method"])))
        return subprocess.CompletedProcess(command, 0)

    def leaves(self, task: str, options: dict[str, Any]) -> dict[str, Any]:
        return left(task, [1, 0], 0.3, 1.0)
