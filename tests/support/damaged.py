"""Checkpoints that are damaged or contradict themselves, each a small change to a whole one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

Damage = Callable[[Path], None]
WEIGHTS, CONFIG, PROCESSOR = "model.safetensors", "config.json", "processor_config.json"
TOKENS, TOKENIZER, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
GENERATION, INDEX = "generation_config.json", "model.safetensors.index.json"


def setting(path: str, value: Any, file: str = CONFIG) -> Damage:
    """Another value at a dotted path of a JSON file."""

    def change(folder: Path) -> None:
        found = json.loads((folder / file).read_text())
        *parents, name = path.split(".")
        place = found
        for parent in parents:
            place = place[parent]
        place[name] = value
        (folder / file).write_text(json.dumps(found))

    return change


def without(path: str, file: str = CONFIG) -> Damage:
    """A JSON file that lacks what is at a dotted path."""

    def change(folder: Path) -> None:
        found = json.loads((folder / file).read_text())
        *parents, name = path.split(".")
        place = found
        for parent in parents:
            place = place[parent]
        del place[name]
        (folder / file).write_text(json.dumps(found))

    return change


def written(file: str, content: bytes | str) -> Damage:
    """Other content in a file."""
    data = content.encode() if isinstance(content, str) else content

    def change(folder: Path) -> None:
        (folder / file).write_bytes(data)

    return change


def cut(file: str, length: int) -> Damage:
    """A file that ends after `length` bytes, counted from its end where negative."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes((folder / file).read_bytes()[:length])

    return change


def gone(*files: str) -> Damage:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def renamed(before: str, after: str) -> Damage:
    """Weights whose names contain `before` get other names; `after` "" drops them."""

    def change(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        assert any(before in name for name in found)
        kept = {name.replace(before, after): weight for name, weight in found.items() if after or before not in name}
        save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def reshaped(part: str) -> Damage:
    """Weights whose names contain `part` lose their last row."""

    def change(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        assert any(part in name for name in found)
        save_file(
            {name: weight[:-1].clone() if part in name else weight for name, weight in found.items()},
            folder / WEIGHTS,
            metadata={"format": "pt"},
        )

    return change


def pickled(folder: Path) -> None:
    """A pickle that would write a file, in the place of the weights."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(folder / "it-ran"), "w")

    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


def shards(place: str, *lost: str) -> Damage:
    """Two shards; the index puts the second at `place`, and does not name weights that contain one of `lost`."""

    def change(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        names = sorted(found)
        halves = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
        for file, members in halves.items():
            save_file({name: found[name] for name in members}, folder / file, metadata={"format": "pt"})
        written_as = {"a.safetensors": "a.safetensors", "b.safetensors": place}
        weight_map = {
            name: written_as[file]
            for file, members in halves.items()
            for name in members
            if not any(part in name for part in lost)
        }
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
        (folder / WEIGHTS).unlink()
        if place != "b.safetensors":
            (folder / "b.safetensors").rename(folder.parent / Path(place).name)

    return change
