"""Peak memory of one run: on a GPU in this process, on a CPU in a fresh one.

A process on a CPU keeps memory it has freed, so that a second run seems to take none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import Cell
from benchmarks.oracle import Cut
from benchmarks.shapes import TEXTS, Text
from benchmarks.trials import batch_trial_of, model_of, trial_of
from framefusion.inference.answer.memory import CLEAR_REFERENCES, peak_bytes, reset_peak

ROOT = Path(__file__).parents[1]
PATIENCE = 900
"""Seconds a process may take."""
BACK_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
"""Lets the C library hand every freed tensor back to the system, so that what is resident is what is in use."""
FEW_FRAMES = 2


def peak_here(run: Callable[[], Any], device: torch.device) -> float:
    """MiB that `run` takes on a GPU beyond what was taken before."""
    reset_peak(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return _mib(torch.cuda.max_memory_allocated(device) - before)


def asked_apart(module: str, asked: dict[str, Any], patience: float = PATIENCE) -> Any:
    """What `module` writes as JSON in its last line, run in a process of its own with `asked` as input."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(asked),
        cwd=ROOT,
        env={**os.environ, **BACK_AT_ONCE},
        capture_output=True,
        text=True,
        timeout=patience,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def peak_apart(cell: Cell, variant: str, cuts: Sequence[Cut] = ()) -> float | None:
    """MiB that the prefill of a variant takes on a CPU beyond weights and prompt; None where nobody can say.

    cuts: of the oracle. The process builds model and prompt of the cell anew, and runs a few frames first.
    """
    try:
        return asked_apart("benchmarks.peak", question(cell, variant, cuts))["peak_mib"]
    except (OSError, subprocess.SubprocessError, ValueError, LookupError):
        return None


def question(cell: Cell, variant: str, cuts: Sequence[Cut] = ()) -> dict[str, Any]:
    """What `answer` is asked, as JSON takes it."""
    return {
        "cell": asdict(cell),
        "text": asdict(TEXTS[cell.shape]),
        "variant": variant,
        "cuts": [(cut.layer, cut.after_attention, cut.slots.tolist()) for cut in cuts],
        "threads": torch.get_num_threads(),
    }


def answer(asked: dict[str, Any]) -> float | None:
    """What `peak_apart` asks for, in the process it has started."""
    torch.set_num_threads(asked["threads"])
    cell, variant, device = replace(Cell(**asked["cell"]), decode=0), asked["variant"], torch.device("cpu")
    TEXTS[cell.shape] = Text(**asked["text"])
    model = model_of(cell, device)
    _runs(replace(cell, frames=FEW_FRAMES), model, device)[variant]()
    cuts = [Cut(layer, after, torch.tensor(slots)) for layer, after, slots in asked["cuts"]]
    run = _runs(cell, model, device, cuts)[variant]
    if not os.access(CLEAR_REFERENCES, os.W_OK):  # the peak would be that of building the model
        return None
    reset_peak(device)
    before = peak_bytes(device)
    run()
    after = peak_bytes(device)
    return None if before is None or after is None else _mib(after - before)


def _runs(cell: Cell, model: Any, device: torch.device, cuts: list[Cut] | None = None) -> dict[str, Callable[[], Any]]:
    if cell.kind == "batch":
        return batch_trial_of(cell, model, device).runs()
    return trial_of(cell, model, device, cuts).runs()


def _mib(count: int) -> float:
    return round(count / 2**20, 1)


if __name__ == "__main__":
    print(json.dumps({"peak_mib": answer(json.load(sys.stdin))}))
