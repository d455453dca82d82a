"""The border to other people's files: whatever a library says of them becomes a `CheckpointError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framefusion.core.errors import CheckpointError, FrameFusionError

NOT_RUN = "which is not run unless you say so"
TRUST = "read that code, then pass --trust-remote-code (in Python trust_remote_code=True)"
AGAIN = "it is damaged or cut off: fetch the checkpoint again"
# What readers of weight files say of files that are none, or end early.
DAMAGED = ("SafetensorError", "UnpicklingError", "EOFError", "BadZipFile", "UnicodeDecodeError", "JSONDecodeError")
LENGTH = 300


@contextmanager
def reading(name: str, part: str) -> Iterator[None]:
    """Around calls of a library that reads or builds `part` of the checkpoint `name`, and around nothing else.

    A stranger's file can make them raise anything. Raises CheckpointError.
    """
    try:
        yield
    except FrameFusionError:
        raise
    except Exception as error:
        raise explained(name, part, error) from error


def explained(name: str, part: str, error: Exception) -> CheckpointError:
    """What a library said of `part` of a checkpoint, with a hint that fits."""
    if "trust_remote_code" in str(error):
        return refused(name, f"a part of the checkpoint is code of its own, {NOT_RUN}", TRUST)
    return refused(name, f"{part}: {reason_of(error)}", _hint(name, error))


def refused(name: str, why: str, hint: str = "") -> CheckpointError:
    return CheckpointError(f"cannot load the model `{name}`", why, hint)


def reason_of(error: BaseException) -> str:
    """One line of what an exception says, its type in front where that says more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A validator names the field first and the reason in the lines below.
    text = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    text = text if len(text) <= LENGTH else f"{text[:LENGTH]}…"
    if isinstance(error, OSError | ImportError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, of the machine or of a device."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error)


def _hint(name: str, error: Exception) -> str:
    if is_memory(error):
        return "take a smaller model, --dtype bfloat16, or --device auto to spread it over all devices"
    if any(kind.__name__ in DAMAGED for kind in type(error).__mro__):
        return AGAIN
    if Path(name).is_dir():
        return "the folder must hold what save_pretrained of a vision-language model and of its processor wrote"
    if "/" not in name.strip("/") or name.startswith((".", "/")):
        return "give the path of a saved checkpoint, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
    return "check the spelling and the network; offline, give the path of a saved checkpoint"
