"""The model a command works with, by its name on the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from framefusion.cli.console import working_on
from framefusion.errors import OptionError
from framefusion.tiny import CHECKPOINT
from framefusion.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.answer.checkpoint import Checkpoint


def check_run(dtype: str, max_new_tokens: int) -> None:
    """Raises OptionError before anything slow starts."""
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise OptionError(f"unknown dtype `{dtype}`", hint="use auto, float32, bfloat16 or float16")
    if max_new_tokens < 1:
        raise OptionError(f"--max-new-tokens must be at least 1, got {max_new_tokens}")


def open_checkpoint(model: str, dtype: str, device: str | None, trust_remote_code: bool = False) -> Checkpoint:
    """The embedded model, or the checkpoint at a path or with a hub id. Raises CheckpointError."""
    from framefusion.answer.checkpoint import load_checkpoint

    with working_on(f"loading {model}"):
        path = str(CHECKPOINT) if model == TINY else model
        found = load_checkpoint(path, dtype, device, trust_remote_code=trust_remote_code)
    return replace(found, name=model)
