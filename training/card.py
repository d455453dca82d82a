"""The model card, from the record of the run and an evaluation on seeds that training never saw."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
import transformers

from framefusion.yardstick import KINDS, chance

SAMPLES, SEED = 1200, 1
HEADING = """# framefusion/tiny

A small video model that answers questions about clips of moving shapes. It comes with the package so that everything
can be tried, tested and compared offline: it has frames, a grid, M-RoPE and depth as its large relatives have, and it
really answers. It knows nothing about real videos.

- Architecture: stock `Qwen2_5_VLForConditionalGeneration`, {weights:,} weights in half precision; a tower of
  {tower_layers} layers, {tower_width} wide; a language model of {layers} layers, {width} wide; a vocabulary of
  {vocabulary} words. 32 frames of 112 × 112 pixels are 512 visual tokens.
- Data: {clips:,} clips rendered from seeds 0 to {last_clip:,}, up to eight questions each per pass, and single frames
  of {frame_scenes:,} scenes for the tower. Evaluation seeds begin at 2⁴⁰.
- Trained with random token dropout: a share of batches loses 10 to 75 % of its visual tokens at random places. No
  reduction method takes part.
- Licence: that of the package.
"""


def write_card(path: Path, run: dict[str, Any], dense: dict[str, Any], stages: dict[str, Any], seconds: Any) -> None:
    """`run`: the fields of HEADING. `dense`: the dense part of `framefusion evaluate --json`."""
    lines = [HEADING.format(**run), "## Training", "", "| stage | steps | minutes |", "|---|---:|---:|"]
    lines += [f"| {name} | {steps} | {seconds.get(name, 0) / 60:.0f} |" for name, steps in stages.items()]
    lines += ["", f"In all {sum(seconds.values()) / 60:.0f} minutes of wall time, {where()}.", ""]
    lines += ["## Accuracy", "", f"`framefusion evaluate --samples {SAMPLES} --seed {SEED}`, dense:", ""]
    lines += ["| kind of question | right | chance |", "|---|---:|---:|"]
    lines += [f"| {kind} | {dense['by_kind'][kind]:.1%} | {chance(kind):.1%} |" for kind in KINDS]
    low, high = dense["interval"]
    mean_chance = sum(map(chance, KINDS)) / len(KINDS)
    lines += [f"| **all** | **{dense['accuracy']:.1%}** ({low:.1%} to {high:.1%}) | {mean_chance:.1%} |", ""]
    path.write_text("\n".join(lines))


def where() -> str:
    """The machine and versions of this run."""
    cores = torch.get_num_threads()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{cores} cores ({platform.machine()}), {versions}, commit {commit.strip() or 'unknown'}"


def read_seconds(work: Path) -> dict[str, float]:
    path = work / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}
