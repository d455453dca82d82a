"""Where a model is put."""

from __future__ import annotations

from importlib.util import find_spec

from framefusion.core.errors import MissingPackageError, OptionError

SPREAD = "auto"


def resolved(device: str | None) -> str:
    """The device by its name: None is the GPU if there is one, "auto" stays. Raises what `check_device` raises."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return device


def check_device(device: str | None) -> None:
    """Raises OptionError where torch cannot put a tensor, MissingPackageError for "auto" without accelerate."""
    if device in (None, "cpu"):
        return
    if device == SPREAD:
        if find_spec("accelerate") is None:
            hint = "pip install accelerate, or name one device"
            raise MissingPackageError("--device auto needs accelerate", "it is not installed", hint)
        return
    import torch

    try:
        kept = torch.empty(1, device=device).device
    except Exception as error:  # each kind of device has an exception of its own for not being there
        raise OptionError(f"there is no device `{device}`", _why(str(device)), f"use {_usable()}") from error
    if kept.type == "meta":
        raise OptionError("no model can run on the device `meta`", "it keeps no values", f"use {_usable()}")


def _why(device: str) -> str:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        return "torch knows no such kind of device"
    if kind == "cuda" and torch.cuda.is_available():
        return f"torch sees {torch.cuda.device_count()} of them, counted from cuda:0"
    return f"torch sees no {kind} device on this machine" if kind != "cpu" else "there is one CPU only"


def _usable() -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count) if count > 1)]
    if torch.backends.mps.is_available():
        found.append("mps")
    return ", ".join([*found[:8], "or auto to spread the model"])
