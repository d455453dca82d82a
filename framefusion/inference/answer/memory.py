"""Peak memory of one run: of the GPU where the model is on one, else of this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLEAR_REFERENCES = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"


def reset_peak(device: Any) -> None:
    """Start a new measurement."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        CLEAR_REFERENCES.write_text(RESET_PEAK)
    except OSError:
        return


def peak_bytes(device: Any) -> int | None:
    """Bytes since `reset_peak`: allocated by torch on a GPU, resident in the process on a CPU; None where unknown."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    peak = next((line for line in lines if line.startswith("VmHWM:")), None)
    return int(peak.split()[1]) * 1024 if peak else None
