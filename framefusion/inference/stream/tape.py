"""A stream on disk: its memory and the frames that wait, so that it can go on later or elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from framefusion.core.destination import check_file, put
from framefusion.core.errors import CheckpointError
from framefusion.inference.stream.memory import LayerMemory, Memory
from framefusion.inference.stream.packed import Packed
from framefusion.inference.stream.positions import Clock
from framefusion.inference.stream.prompt import Frames
from framefusion.inference.stream.state import State

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor

    from framefusion.inference.stream.watched import Watched

KIND, VERSION = "framefusion stream", 1
COUNTED = ("begin", "windows", "steps", "columns")


def write(path: str | PathLike[str], model: Any, watched: Watched) -> None:
    """Write a tape, whole or not at all. Raises OptionError."""
    from safetensors.torch import save

    path, state = Path(path), watched.state
    check_file(path, "save", ours=is_tape, parents=True)
    tensors: dict[str, Tensor] = {}
    for number, layer in state.memory.layers.items():
        for name, tensor in layer.tensors.items():
            tensors[f"layers.{number}.{name}"] = tensor.contiguous().cpu()
    states = {str(number): _packed(held, f"states.{number}", tensors) for number, held in state.memory.states.items()}
    if state.closing is not None:
        tensors["closing"] = state.closing.contiguous().cpu()
    facts = {
        "kind": KIND,
        "version": VERSION,
        "model": signature(model),
        "protected": state.memory.protected,
        "bits": next((getattr(layer.keys, "bits", None) for layer in state.memory.layers.values()), None),
        "states": states,
        "clock": asdict(state.clock),
        "counted": {name: getattr(state, name) for name in COUNTED},
        "last": _frames(state.last, "last", tensors),
        "waiting": _frames(watched.waiting.waiting, "waiting", tensors),
        "seen": [watched.frames, watched.seconds],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, save(tensors, {KIND: json.dumps(facts)}))


def read(path: str | PathLike[str], model: Any) -> tuple[State, Frames | None, int, float]:
    """State, waiting frames, frames fed and time of the last, on the model's device.

    Raises CheckpointError for what is no tape of this model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt", device=str(model.device)) as file:
            facts = json.loads((file.metadata() or {}).get(KIND, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be resumed", f"it cannot be read: {error}", HINT) from error
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise CheckpointError(f"{path} cannot be resumed", "it is no tape of this version of framefusion", HINT)
    if facts["model"] != signature(model):
        other = ", ".join(f"{name} {value}" for name, value in facts["model"].items())
        raise CheckpointError(f"{path} cannot be resumed", f"it was recorded with another model: {other}", HINT)
    layers = {}
    for number in sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")}):
        layers[number] = _layer(f"layers.{number}.", tensors, facts["bits"])
    states = {int(number): _unpacked(held, tensors, model.device) for number, held in facts["states"].items()}
    state = State(
        Memory(layers, states, facts["protected"]),
        Clock(**facts["clock"]),
        tensors.get("closing"),
        _refilled(facts["last"], "last", tensors),
        **facts["counted"],
    )
    frames, second = facts["seen"]
    return state, _refilled(facts["waiting"], "waiting", tensors), frames, second


HINT = "give `resume` a file that `VideoStream.save` wrote with the same model"


def is_tape(path: Path) -> bool:
    """Whether a file begins as a tape does."""
    with path.open("rb") as file:
        return KIND.encode() in file.read(2**20)


def signature(model: Any) -> dict[str, Any]:
    """What has to be the same for a memory to be the model's own, its weights aside."""
    text = model.config.get_text_config(decoder=True)
    return {
        "type": model.config.model_type,
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _layer(prefix: str, tensors: dict[str, Tensor], bits: int | None) -> LayerMemory:
    def kept(name: str) -> Any:
        if bits is None:
            return tensors[prefix + name]
        codes, low, step = (tensors[f"{prefix}{name}.{part}"] for part in ("codes", "low", "step"))
        return Packed(codes, low, step, bits)

    return LayerMemory(kept("keys"), kept("values"), tensors[prefix + "about"], tensors.get(prefix + "size"))


def _frames(frames: Frames | None, name: str, tensors: dict[str, Tensor]) -> list[float] | None:
    if frames is None:
        return None
    tensors[name] = torch.from_numpy(np.ascontiguousarray(frames.pictures))
    return list(frames.seconds)


def _refilled(seconds: list[float] | None, name: str, tensors: dict[str, Tensor]) -> Frames | None:
    return None if seconds is None else Frames(tensors[name].cpu().numpy(), tuple(seconds))


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` in words that JSON has; its tensors go to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.contiguous().cpu()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _packed(held, f"{name}.{key}", tensors)] for key, held in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_packed(held, f"{name}.{number}", tensors) for number, held in enumerate(value)]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    return {"device": True} if isinstance(value, torch.device) else {"plain": value}


def _unpacked(word: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> Any:
    (kind, value), *_ = word.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "items":
        return {key: _unpacked(held, tensors, device) for key, held in value}
    if kind == "list":
        return [_unpacked(held, tensors, device) for held in value]
    if kind == "dtype":
        return getattr(torch, value)
    return device if kind == "device" else value
