"""Several processes that hold one model together, as `torchrun` starts them, on the CPU by gloo."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

WORLD = 2
PATIENCE = timedelta(seconds=120)


def run_ranks(folder: Path, work: Callable[[Path], Any]) -> list[Any]:
    """What `work(folder)`, a function of a module, returns on every rank, as JSON gives it back.

    A rank that waits for one that never comes fails after `PATIENCE`.
    """
    torch.multiprocessing.spawn(_rank, args=(folder, work), nprocs=WORLD)  # type: ignore[no-untyped-call]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(WORLD)]


def _rank(rank: int, folder: Path, work: Callable[[Path], Any]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"} | dict.fromkeys(
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(WORLD)
    )
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD, timeout=PATIENCE
    )
    try:
        (folder / f"rank{rank}.json").write_text(json.dumps(work(folder)))
    finally:
        distributed.destroy_process_group()
