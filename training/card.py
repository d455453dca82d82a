"""The model card, from the record of the run and an evaluation on seeds that training never saw."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig

from framefusion.inference.tiny import CHECKPOINT

EVALUATE = ("evaluate", "--method", "framefusion", "--keep", "0.3", "--samples", "1200", "--seed", "11")
HEADING = """# framefusion/tiny

A small video model that answers questions about clips of moving shapes. It comes with the package so that everything
can be tried, tested and compared offline: it has frames, a grid, M-RoPE and depth as its large relatives have, and it
really answers. It knows nothing about real videos.

- Architecture: stock `Qwen2_5_VLForConditionalGeneration`, {weights:,} weights in half precision; a tower of
  {tower_layers} layers, {tower_width} wide; a language model of {layers} layers, {width} wide; a vocabulary of
  {vocabulary} words. 32 frames of 112 × 112 pixels are 512 visual tokens. SHA-256 of the weights: {digest}…
- Data: {clips:,} clips rendered from seeds 0 to {last_clip:,}, up to sixteen questions each per pass, and single frames
  of {frame_scenes:,} scenes for the tower. Evaluation seeds begin at 2⁴⁰.
- Trained with token dropout: a share of batches loses 10 to 75 % of its visual tokens, each clip by lot at random
  places, as whole frames, or where tokens are most like the frame before; a share loses random ones on the way through
  the lower layers. It knows these ways of losing tokens, but no merged ones. No reduction method takes part.
- How the weights came about, and which seeds were looked at meanwhile: `training/README.md` in the repository.
- Similarity threshold of FrameFusion, by its calibration rule: {threshold:g}, in `config.json`.
- transformers 5.17 rounds the seconds between frames to whole ones, and with them every question about time; figures
  here are of {transformers}.
- Licence: that of the package.
"""


def make_card(stages: dict[str, int], seconds: dict[str, float], data: dict[str, int]) -> None:
    """Evaluate the embedded model and write its card beside it.

    stages: steps by name. seconds: wall time by name. data: `clips` and `frame_scenes` it was trained on.
    """
    config, weights = (
        AutoConfig.from_pretrained(CHECKPOINT, trust_remote_code=False),
        load_file(CHECKPOINT / "model.safetensors"),
    )
    text, vision = config.text_config, config.vision_config
    run = data | {
        "digest": digest_of(CHECKPOINT / "model.safetensors"),
        "last_clip": data["clips"] - 1,
        "weights": sum(weight.numel() for weight in weights.values()),
        "tower_layers": vision.depth,
        "tower_width": vision.hidden_size,
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "vocabulary": text.vocab_size,
        "transformers": transformers.__version__,
        "threshold": config.framefusion["similarity_lower_bound"],
    }
    command = [sys.executable, "-m", "framefusion", *EVALUATE, "--json"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    CHECKPOINT.with_name("README.md").write_text(card(run, found, stages, seconds))


def card(run: dict[str, Any], found: dict[str, Any], stages: dict[str, int], seconds: dict[str, float]) -> str:
    """`run`: the fields of HEADING. `found`: what EVALUATE printed."""
    lines = [HEADING.format(**run), "## Training", "", "| stage | steps | minutes |", "|---|---:|---:|"]
    lines += [f"| {name} | {stages.get(name, '')} | {spent / 60:.0f} |" for name, spent in seconds.items()]
    lines += ["", f"In all {sum(seconds.values()) / 60:.0f} minutes of wall time, {where()}.", ""]
    lines += ["## Accuracy", "", f"`framefusion {' '.join(EVALUATE)}`:", ""]
    lines += [*_by_kind(found), "", *_compared(found), ""]
    return "\n".join(lines)


def _by_kind(found: dict[str, Any]) -> list[str]:
    columns = [found["dense"], *found["entries"]]
    lines = ["| kind of question | chance | dense | " + " | ".join(one["label"] for one in found["entries"]) + " |"]
    lines += ["|---" + "|---:" * (1 + len(columns)) + "|"]
    for kind, guessed in found["chance_by_kind"].items():
        shares = " | ".join(f"{column['by_kind'][kind]:.1%}" for column in columns)
        lines.append(f"| {kind} | {guessed:.1%} | {shares} |")
    overall = " | ".join(f"**{column['accuracy']:.1%}**" for column in columns)
    return [*lines, f"| **all** | {found['chance']:.1%} | {overall} |"]


def _compared(found: dict[str, Any]) -> list[str]:
    """Every arm against dense, and the method against each control; intervals are 95 %."""
    ahead = {one["control"]: one for one in found["comparisons"]}
    lines = [
        "| | cost | accuracy | of the dense accuracy | framefusion is ahead by (points) |",
        "|---|---:|---:|---:|---:|",
    ]
    lines.append(f"| dense | 100% | {_between(found['dense']['accuracy'], found['dense']['interval'])} | | |")
    for one in found["entries"]:
        share = one["against_dense"]
        cells = [
            one["label"],
            f"{one['cost']:.1%}",
            _between(one["accuracy"], one["interval"]),
            _between(share["share"], share["share_interval"]),
            _points(ahead[one["label"]]) if one["label"] in ahead else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "Cost: the visual tokens read, on the mean over layers. In brackets 95 % intervals."]


def _between(value: float, interval: list[float]) -> str:
    return f"{value:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


def _points(one: dict[str, Any]) -> str:
    low, high = one["difference_interval"]
    return f"{100 * one['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def digest_of(file: Path) -> str:
    """The first digits of its SHA-256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def where() -> str:
    """The machine and versions of this run."""
    cores = torch.get_num_threads()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{cores} cores ({platform.machine()}), {versions}, commit {commit.strip() or 'unknown'}"


def read_seconds(work: Path) -> dict[str, float]:
    path = work / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}
