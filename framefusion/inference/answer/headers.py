"""What the headers of a checkpoint's weight files say of its tensors, where they contradict each other.

Readers take a header at its word: a damaged one that can still be parsed gives other weights without an error. A format
without checksums does not show everything; what is looked for here no intact checkpoint has.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from framefusion.inference.answer.foreign import reading, refused

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Types of one size: calling one by another's name leaves a file that can be read. Bytes and 8-bit floats do stand side
# by side, in checkpoints some of whose layers are packed in 4 bits.
ALIKE = (
    *({"F64", "I64", "U64"}, {"F32", "I32", "U32"}, {"F16", "BF16", "I16", "U16"}),
    *({"I8", "U8", "BOOL"}, {"F8_E4M3", "F8_E5M2", "I8", "BOOL"}),
)
WHOLE_NUMBERS = {"I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8", "BOOL"}
PACKED = {"I8", "U8"}
LEARNED = ("weight", "bias")
# So many tensors of a kind tell what type the kind has.
MANY = 10
OTHER = "files of two checkpoints were mixed, or one is damaged: fetch the checkpoint again"


def check_headers(name: str, settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError where an index and its files, or the types of weights of one kind, contradict each other.

    settings: config.json.
    """
    placed: dict[str, str] = {}
    types: dict[str, str] = {}
    index, files = weight_files(name, settings)
    for file, path in files.items():
        with reading(name, file):
            found = dict(_types(path))
        both = sorted(found.keys() & placed.keys())
        if both:
            raise refused(name, f"`{both[0]}` is in {placed[both[0]]} and in {file}", OTHER)
        placed |= dict.fromkeys(found, file)
        types |= found
    strayed = sorted(weight for weight, file in index.items() if placed.get(weight, file) != file)
    if strayed:
        weight = strayed[0]
        raise refused(name, f"{INDEX} puts `{weight}` in {index[weight]}, but it is in {placed[weight]}", OTHER)
    odd = next(_odd(types, bool(settings.get("quantization_config"))), "")
    if odd:
        raise refused(name, odd, "the header of a weight file is damaged: fetch the checkpoint again")


def weight_files(name: str, settings: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """What the index says (weight, file), and the files transformers reads (name, path); both empty for pickles."""
    from transformers.utils import cached_file

    def place(file: str) -> str | None:
        with reading(name, file):
            return cached_file(name, file, _raise_exceptions_for_missing_entries=False)

    single = settings.get("transformers_weights") or SINGLE
    index: dict[str, str] = {}
    if single == SINGLE or str(single).endswith(".json"):
        listed = None if single == SINGLE and place(SINGLE) else place(INDEX if single == SINGLE else single)
        if listed is not None:
            with reading(name, INDEX):
                index = {str(weight): str(file) for weight, file in _weight_map(listed).items()}
    names = sorted(set(index.values())) or [str(single)]
    places = {file: place(file) for file in names if file.endswith(".safetensors")}
    lost = sorted(file for file, path in places.items() if path is None)
    if index and lost:
        raise refused(name, f"{INDEX} names {lost[0]}, which is not there", "fetch the checkpoint again")
    return index, {file: path for file, path in places.items() if path is not None}


def _weight_map(path: str) -> Mapping[str, Any]:
    weights: Mapping[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"]
    return weights


def _types(path: str) -> Iterator[tuple[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for weight in file.keys():  # noqa: SIM118 - no mapping
            yield weight, file.get_slice(weight).get_dtype()


def _odd(types: Mapping[str, str], quantised: bool) -> Iterator[str]:
    """Weights whose type cannot be theirs, each with the reason."""
    for weight, kind in types.items():
        if _leaf(weight) in LEARNED and kind in WHOLE_NUMBERS and not (quantised and kind in PACKED):
            yield f"`{weight}` is said to hold whole numbers ({kind})"
    for weight, kind, usual, _, _ in _rarer(types, _in_any_layer):
        yield f"`{weight}` is said to be {kind}, its like in other layers {usual}"
    for weight, kind, usual, few, many in _rarer(types, _leaf):
        if few == 1 and many >= MANY:
            yield f"`{weight}` alone is said to be {kind}, {many} others are {usual}"


def _rarer(types: Mapping[str, str], kind_of: Callable[[str], str]) -> Iterator[tuple[str, str, str, int, int]]:
    """Where weights of a kind have two types of one size: one of the rarer type, both types, how many have each."""
    groups: dict[str, list[str]] = defaultdict(list)
    for weight in types:
        groups[kind_of(weight)].append(weight)
    for members in groups.values():
        counts = Counter(types[weight] for weight in members).most_common()
        for (usual, many), (kind, few) in combinations(counts, 2):
            if any({kind, usual} <= group for group in ALIKE):
                yield next(weight for weight in members if types[weight] == kind), kind, usual, few, many


def _in_any_layer(weight: str) -> str:
    return ".".join("#" if part.isdecimal() else part for part in weight.split("."))


def _leaf(weight: str) -> str:
    return weight.rpartition(".")[2]
