"""The model a command works with, by its name on the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from framefusion.cli.console import note, working_on
from framefusion.core.destination import check_folder
from framefusion.core.errors import RecordsError
from framefusion.core.options import DTYPES, Count, OneOf, checked

if TYPE_CHECKING:
    from pathlib import Path

    from framefusion.evaluation.records import Records
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.quantization.precision import Precision

LOADED = ("sdpa", "eager")


def check_run(dtype: str, max_new_tokens: int, device: str | None = None) -> None:
    """Raises OptionError before anything slow starts."""
    from framefusion.inference.answer.device import check_device

    checked("--dtype", Annotated[str, OneOf(*DTYPES)], dtype)
    checked("--max-new-tokens", Count, max_new_tokens, "64 is room for a few sentences")
    check_device(device)


def open_answers(to: Path | None) -> Records | None:
    """The file of `--out`; None for the model's own in the default folder. Raises RecordsError before anything slow."""
    from framefusion.evaluation.records import Records, default_folder

    if to is not None:
        return Records(to)
    check_folder(default_folder(), "--out", error=RecordsError)
    return None


def read_precision(quantize: str | None, attention: str | None) -> Precision | None:
    """What `--quantize` and `--attention` ask for, None for nothing. Raises OptionError."""
    from framefusion.inference.quantization.precision import ATTENTIONS, Precision

    checked("--attention", Annotated[str, OneOf(*LOADED, *ATTENTIONS)] | None, attention)
    asked = Precision.parse(quantize or "")
    if attention in ATTENTIONS:
        asked = replace(asked, attention=attention)
    return None if asked.full else asked


def open_checkpoint(
    model: str,
    dtype: str,
    device: str | None,
    trust_remote_code: bool = False,
    precision: Precision | None = None,
    attention: str | None = None,
    adapter: str | None = None,
) -> Checkpoint:
    """The embedded model, or the checkpoint at a path or with a hub id, with an adapter merged, quantised for good.

    Raises CheckpointError, and what `framefusion.inference.quantization.quantize` raises.
    """
    from framefusion.inference.answer.checkpoint import configuration_of, load_checkpoint

    loaded = attention if attention in LOADED else None
    with working_on(f"loading {model}"):
        if precision is not None and not precision.kv.full:
            from framefusion.inference.quantization.cache import cache_for

            cache_for(configuration_of(model, trust_remote_code), precision)
        found = load_checkpoint(model, dtype, device, loaded, trust_remote_code, adapter)
    return found if precision is None else narrowed(found, precision)


def narrowed(checkpoint: Checkpoint, precision: Precision) -> Checkpoint:
    """The checkpoint, quantised for good."""
    from framefusion.inference.quantization.apply import quantize_for_good

    with working_on("quantising"):
        quantised = quantize_for_good(checkpoint.model, precision)
    for message in quantised.remarks:
        note(message)
    return replace(checkpoint, precision=precision)
