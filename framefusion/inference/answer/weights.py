"""Whether the weight files of a checkpoint hold the model that its configuration describes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from framefusion.inference.answer.foreign import reading, refused
from framefusion.inference.answer.weight_names import counted, listed, other_size

INDEX = ".index.json"
FILES = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(file + INDEX for file in FILES)
# Weights in a byte of a file: at least two bytes each, or packed by a quantisation.
PER_BYTE, PER_BYTE_PACKED = 1 / 2, 8
# Models this small load whatever they are.
SMALL = 50_000_000
INCOMPLETE = "fetch the checkpoint again; adapters and other parts of a model are not loaded by themselves"


def check_files(name: str, settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError where an index or the configuration names weight files outside of the checkpoint.

    Also where one of its files is a pipe or a device, which a reader would wait for.
    """
    from transformers.utils import cached_file

    # Templates may be in a folder of their own.
    _refuse_special(name, [path for depth in ("*", "*/*") for path in sorted(Path(name).glob(depth))])
    named: set[Any] = {settings["transformers_weights"]} if settings.get("transformers_weights") else set()
    for index in INDEXES:
        with reading(name, index):
            path = cached_file(name, index, _raise_exceptions_for_missing_entries=False)
            found = None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
        if found is not None:
            weights = found.get("weight_map") if isinstance(found, Mapping) else None
            if not isinstance(weights, Mapping) or not weights:
                raise refused(name, f"{index}: it names no weights", "fetch the checkpoint again")
            named |= set(map(str, weights.values()))
    for file in sorted(map(str, named)):
        if not _inside(file):
            raise refused(
                name,
                f"it names a file outside of itself, `{file}`, as a part of its weights",
                "a checkpoint has no business there; take it from a source you trust",
            )
    _refuse_special(name, [Path(name, file) for file in map(str, named)])


def _refuse_special(name: str, paths: Iterable[Path]) -> None:
    with reading(name, "its files"):
        special = [path for path in paths if path.exists() and not _is_plain(path)]
    if special:
        why = f"`{special[0].relative_to(name)}` is neither a file nor a folder"
        raise refused(name, why, "a checkpoint has no pipes or devices; take it from a source you trust")


def _is_plain(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def _inside(file: str) -> bool:
    """Whether a relative path leads nowhere else, as either kind of system reads it."""
    return all(
        not path.is_absolute() and not path.drive and ".." not in path.parts
        for path in (PurePosixPath(file), PureWindowsPath(file))
    )


def check_size(name: str, build: Callable[[], Any], settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError where the configuration describes a model far larger than the files of a folder.

    transformers would first make room for all of it, which no machine may have. build: makes the model.
    """
    import torch

    if not os.path.isdir(name):
        return
    with reading(name, "its weights"):
        files = [entry for entry in os.scandir(name) if entry.name.endswith((".safetensors", ".bin"))]
        stored = sum(entry.stat().st_size for entry in files)
    if not stored or os.path.exists(os.path.join(name, "adapter_config.json")):
        return
    with reading(name, "its configuration"), torch.device("meta"):
        wanted = sum(weight.numel() for weight in build().parameters())
    most = stored * (PER_BYTE_PACKED if settings.get("quantization_config") else PER_BYTE)
    if wanted > max(most, SMALL):
        raise refused(
            name,
            f"its configuration describes a model of {wanted:,} weights, its files are of {stored:,} bytes",
            "the configuration or the weights are those of another model; fetch both again",
        )


def check_loaded(name: str, found: Mapping[str, Any], spared: str = "") -> None:
    """Raises CheckpointError for weights that were not there, or of another size, and are random now.

    found: the loading info of `from_pretrained`, in which weights that are tied to others and buffers that are not
    saved do not count. spared: weights whose names contain this are never read.
    """
    missing = sorted(weight for weight in found.get("missing_keys", ()) if not spared or spared not in weight)
    sizes = sorted((str(weight), tuple(stored), tuple(wanted)) for weight, stored, wanted in found["mismatched_keys"])
    if sizes:
        shown = [other_size(*size) for size in sizes]
        why = f"{counted(sizes)} of another size than its configuration says: {listed(shown)}"
        raise refused(name, why, "the configuration or the weights are those of another model; fetch both again")
    if missing:
        raise refused(name, f"it lacks {counted(missing)}: {listed(missing)}", _renamed(found) or INCOMPLETE)
    if found.get("error_msgs"):
        raise refused(name, listed([" ".join(str(message).split()) for message in found["error_msgs"]]))


def _renamed(found: Mapping[str, Any]) -> str:
    """A hint where the files hold weights that nothing asked for."""
    extra = sorted(found.get("unexpected_keys") or ())
    if not extra:
        return ""
    unknown = f"it holds {counted(extra)} that the model does not know, such as {extra[0]}"
    return f"{unknown}: they may have other names than this release of transformers reads"
