"""The finished parts as an ordinary checkpoint directory, weights in half precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from framefusion import calibrate
from framefusion.evaluation.comparison import PROBE_SEED
from framefusion.evaluation.synthetic_questions import samples
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from training.architecture import build_model, build_processor
from training.features import tower_of
from training.progress import load, say
from training.tower import stop_attending_by_frame

CALIBRATED_ON = 8


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
    _edit(out / "config.json", _single)
    _carry_threshold(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{out}: {sum(weight.numel() for weight in model.parameters()):,} weights, {size / 1e6:.1f} MB")


def _under(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def _single(config: object) -> object:
    if not isinstance(config, dict):
        return config
    return {key: "float32" if key == "dtype" else _single(value) for key, value in config.items()}


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")


def _carry_threshold(out: Path) -> None:
    """FrameFusion's threshold by its rule, on clips that no evaluation asks about, into the configuration."""
    checkpoint = load_checkpoint(str(out), device="cpu")
    prompts = [
        build_prompt(checkpoint, sample.clip(), sample.question) for sample in samples(CALIBRATED_ON, PROBE_SEED)
    ]
    found = {"similarity_lower_bound": round(calibrate(checkpoint.model, prompts), 3)}
    _edit(out / "config.json", lambda config: config | {"framefusion": found})
