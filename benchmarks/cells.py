"""What is measured: cells as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

THRESHOLD = 0.6
"""Cosine from which FrameFusion merges neighbours here."""

Kind = Literal["prompt", "growth", "batch", "merge", "parts", "seek", "tower", "stream", "questions"]


@dataclass(frozen=True)
class Cell:
    """frames x patches visual tokens of one prompt. layers: of the text model, its full depth if it fits.

    repeats: timed rounds. close: further prefills of reduced and oracle alone, whose ratio is near one. decode: tokens
    generated after the prompt. rows: of a ragged batch. A cell that measures something else gets another name: tables
    are made of the rows of the names in use. minutes: of a video file of which `frames` are read, and nothing else.
    policy, memory, window: of a stream, with its tokens per layer and frames per window. seed: of the stream that is
    asked about. clip: name of a video file in the folder `videos`. weights: folder of a trained tower. Where these two
    folders are stays out of the rows. attention: of 8 bits, by the name that `Precision` has for it, where it is not
    the stock one.
    """

    name: str
    kind: Kind
    shape: str = "0.5B"
    layers: int = 24
    frames: int = 64
    patches: int = 210
    dtype: str = "float32"
    repeats: int = 5
    close: int = 0
    decode: int = 0
    rows: int = 1
    cost: float = 0.3
    tower_blocks: int = 1
    minutes: int = 0
    policy: str = ""
    memory: int = 0
    window: int = 0
    seed: int = 0
    clip: str = ""
    videos: str = ""
    weights: str = ""
    attention: str = ""

    @property
    def tokens(self) -> int:
        return self.frames * self.patches


MERGE = Cell("merge 64 × 210 × 3584", "merge", "7B", layers=1, repeats=9)

CPU = (
    MERGE,
    Cell("0.5B, ragged batch of 8", "batch", layers=2, frames=12, patches=64, decode=8, rows=8),
    # Two frames of the file make one time step: 64 frames, 6,272 visual tokens.
    Cell("end to end, 0.5B, 64 frames", "parts", layers=6, frames=32, patches=196, decode=32, close=12),
)

GROWTH_FRAMES = (8, 16, 32, 64, 128, 256, 512)
GROWTH_CPU = tuple(
    Cell(f"0.5B, {frames} frames", "growth", layers=4, frames=frames, patches=49, close=6) for frames in GROWTH_FRAMES
)

BF16 = Cell("0.5B bf16, 64 frames", "prompt", layers=4, patches=49, dtype="bfloat16", decode=8)

GPU_PROMPT = Cell("7B, 64 frames", "prompt", "7B", 28, 64, 210, "bfloat16", repeats=9, decode=32)
GPU = (
    replace(MERGE, name="merge 64 × 210 × 3584, bf16", dtype="bfloat16", repeats=25),
    GPU_PROMPT,
    replace(GPU_PROMPT, name="7B, 256 frames", frames=256, repeats=5),
    replace(GPU_PROMPT, name="32B, 64 frames", shape="32B", layers=32, repeats=5),
    replace(GPU_PROMPT, name="72B, 64 frames", shape="72B", layers=20, repeats=5),
    replace(GPU_PROMPT, name="7B, ragged batch of 8", kind="batch", layers=28, frames=32, rows=8, repeats=5),
    replace(GPU_PROMPT, name="end to end, 7B, 64 frames", kind="parts", frames=32, patches=196, tower_blocks=32),
    *(Cell(f"7B, {frames} frames", "growth", "7B", 28, frames, 210, "bfloat16", repeats=5) for frames in GROWTH_FRAMES),
    replace(GPU_PROMPT, name="7B, 64 frames, attention in 8 bits", attention="sage", repeats=5),
)

FILES = (
    Cell("64 frames of an hour of video", "seek", minutes=60, repeats=3),
    Cell("64 frames of three hours of video", "seek", minutes=180, repeats=3),
)

# 64 frames of 392 pixels are 32 time steps of 14 x 14 tokens; the tower then takes two fifths of the dense time.
TOWER = Cell("tower", "tower", layers=18, frames=32, patches=196, repeats=3, decode=32, tower_blocks=3)

# All blocks and layers of a 7B model.
GPU_TOWER = replace(TOWER, shape="7B", layers=28, tower_blocks=32, dtype="bfloat16")

# The embedded model: its layers, and tokens of a frame. 1,000 windows; an hour at two frames per second.
WATCHED = Cell(
    "stream", "stream", "embedded", layers=12, frames=8000, patches=16, memory=1024, window=8, tower_blocks=3
)
HOURS = tuple(
    replace(WATCHED, name=f"questions of hour {seed}", kind="questions", frames=7200, memory=512, window=16, seed=seed)
    for seed in (8105, 8106, 8107)
)

PRESETS = {
    "cpu": CPU,
    "growth": (*GROWTH_CPU, BF16),
    "gpu": GPU,
    "files": FILES,
    "tower": (TOWER,),
    "stream": (WATCHED, *HOURS),
}


def cells_of(preset: str, videos: Path | None = None, weights: Path | None = None) -> tuple[Cell, ...]:
    """Cells of a preset; of the tower's one for every clip in the folder `videos`, a still and a fading one.

    The preset for a GPU has them, too, at the size of a 7B model and but for the fading one. Of streams there is one
    for every policy that forgets.
    """
    from benchmarks.tower.clips import FADE, STILL, files

    if preset == "stream":
        return streams()
    if preset not in ("tower", "gpu"):
        return PRESETS[preset]
    found = files(videos)
    where: dict[str, Any] = {"videos": str(next(iter(found.values())).parent), "weights": str(weights or "")}
    if preset == "gpu":
        large = (replace(GPU_TOWER, name=f"7B tower, {clip}", clip=clip, **where) for clip in (*found, STILL))
        return (*PRESETS["gpu"], *large)
    return tuple(replace(TOWER, name=f"tower, {clip}", clip=clip, **where) for clip in (*found, STILL, FADE))


def streams() -> tuple[Cell, ...]:
    """A stream for each policy that forgets, and the questions of each hour."""
    from benchmarks.stream.measure import bounded

    return (*(replace(WATCHED, name=f"stream, {policy}", policy=policy) for policy in bounded()), *HOURS)


def names() -> set[str]:
    """Of all cells there are."""
    return {cell.name for cells in PRESETS.values() for cell in cells}
