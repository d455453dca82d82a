"""Adapters that PEFT wrote for a model, such as those of `framefusion train --lora`, merged into its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framefusion.core.errors import CheckpointError, MissingPackageError
from framefusion.core.text import one_line
from framefusion.inference.answer.foreign import reason_of
from framefusion.inference.answer.weight_names import counted, listed

CONFIG = "adapter_config.json"
FOLDER = "give the folder that holds adapter_config.json, such as OUT/adapter of `framefusion train --lora`"
OTHER = "give the adapter that was trained for this model"


def with_adapter(model: Any, adapter: str) -> Any:
    """`model` with the adapter at a path or with a hub id merged into it.

    Raises CheckpointError where it is damaged or of another model, MissingPackageError without peft.
    """
    try:
        from peft import PeftConfig, get_peft_model
    except ImportError as error:
        raise MissingPackageError("--adapter needs the package peft", hint="pip install 'framefusion[peft]'") from error
    if Path(adapter).exists() and not Path(adapter, CONFIG).is_file():
        raise _refused(adapter, f"there is no {CONFIG} in it", FOLDER)
    with _reading(adapter, FOLDER, f"{CONFIG}: "):
        config = PeftConfig.from_pretrained(adapter)
        config.base_model_name_or_path = model.name_or_path  # wherever it was when the adapter was trained
    with _reading(adapter, OTHER):
        # Nothing is allocated for what the files do not hold.
        wrapped = get_peft_model(model, config, low_cpu_mem_usage=True)
        found = wrapped.load_adapter(adapter, wrapped.active_adapter, low_cpu_mem_usage=True)
    for what, keys in (("it lacks", found.missing_keys), ("the model has no place for", found.unexpected_keys)):
        if keys:
            raise _refused(adapter, f"{what} {counted(keys)}: {listed(sorted(keys))}", OTHER)
    with _reading(adapter, OTHER):
        return wrapped.merge_and_unload(safe_merge=True)


@contextmanager
def _reading(adapter: str, hint: str, part: str = "") -> Iterator[None]:
    """Around calls of PEFT, which a stranger's files can make raise anything. Raises CheckpointError."""
    try:
        yield
    except Exception as error:
        raise _refused(adapter, f"{part}{reason_of(error)}", hint) from error


def _refused(adapter: str, why: str, hint: str) -> CheckpointError:
    return CheckpointError(f"cannot load the adapter `{one_line(adapter)}`", one_line(why), hint)
