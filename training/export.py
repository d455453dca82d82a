"""The finished parts as an ordinary checkpoint directory, weights in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from training.architecture import build_model, build_processor
from training.features import tower_of
from training.progress import load, say
from training.tower import stop_attending_by_frame


def export(work: Path, out: Path, layers: int) -> None:
    """Writes config, weights and processor to `out`, as `save_pretrained` does."""
    state = load(work / "language.pt")
    assert state is not None, "the language model comes first"
    model = build_model(layers).eval()
    weights = state["weights"]
    tower = tower_of(work)
    stop_attending_by_frame(tower)
    model.model.visual.load_state_dict(tower.state_dict())
    for name, module in (("text", model.model.language_model), ("lm_head", model.lm_head)):
        module.load_state_dict(_under(weights, name))
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    build_processor().save_pretrained(out)
    # Half precision is how the file is stored; it is computed with in single precision unless asked otherwise.
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(_single(config), indent=2, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{out}: {sum(weight.numel() for weight in model.parameters()):,} weights, {size / 1e6:.1f} MB")


def _under(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def _single(config: object) -> object:
    if not isinstance(config, dict):
        return config
    return {key: "float32" if key == "dtype" else _single(value) for key, value in config.items()}
