"""The example's needle task, on clips made here; no video and no lmms-eval is needed to build it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from framefusion.inference.video import write_clip
from tests.project.tree import ROOT
from tests.support.tiny import moving_clip

EXAMPLE = ROOT / "examples" / "lmms_eval_needle"
FRAMES, SIDE = 8, 112


def load(name: str) -> ModuleType:
    """`build` or `needle` of the example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_task(folder: Path, videos: int = 2, each: int = 2) -> Path:
    """A folder for `--include-path` with `videos` x `each` questions."""
    clips = []
    for seed in range(videos):
        clips.append(folder / f"hay{seed}.mp4")
        write_clip(clips[-1], moving_clip(frames=2 * FRAMES, height=SIDE, width=SIDE, seed=seed), fps=4.0)
    task = folder / "task"
    load("build").build(clips, task, frames=FRAMES, each=each, seed=0, side=None)
    return task
