"""Hide a needle in your own videos: a task of lmms-eval in the manner of video needle in a haystack.

    python examples/lmms_eval_needle/build.py VIDEO... --out needle-task [--frames 64] [--each 4] [--seed 0]

Each video becomes a haystack of FRAMES frames, EACH times; every time another frame is replaced by a picture of a large
coloured disc, and the question is which colour it had. The folder then serves as `--include-path`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from framefusion.inference.video import load_clip, write_clip

COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 119, 180),
    "yellow": (240, 220, 40),
    "purple": (128, 50, 160),
    "orange": (255, 127, 14),
}
QUESTION = "One frame of this video shows nothing but a large coloured disc. Which colour is the disc?"
# Every frame is a second of its own, so a reader who takes as many frames as there are misses none.
FPS = 1.0


def disc(colour: str, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: the needle."""
    picture = Image.new("RGB", (width, height), (235, 235, 235))
    radius = min(height, width) * 0.4
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    ImageDraw.Draw(picture).ellipse(box, fill=COLOURS[colour])
    return np.asarray(picture)


def build(videos: list[Path], out: Path, frames: int, each: int, seed: int, side: int | None) -> int:
    """Write the task to `out`; returns the number of questions."""
    draw = np.random.default_rng(seed)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, video in enumerate(videos):
        haystack = load_clip(video, frames=frames, max_side=side).frames
        for place in draw.choice(len(haystack), size=min(each, len(haystack)), replace=False):
            choices = [str(name) for name in draw.permutation(list(COLOURS))]
            right = int(draw.integers(len(choices)))
            pictures = haystack.copy()
            pictures[place] = disc(choices[right], *haystack.shape[1:3])
            path = (out / "clips" / f"{number:04d}_{int(place):04d}.mp4").resolve()
            write_clip(path, pictures, fps=FPS)
            row = {"video": str(path), "question": QUESTION, "choices": choices, "answer": "ABCDEF"[right]}
            rows.append(row | {"depth": float(place / max(1, len(haystack) - 1)), "source": video.name})
    _write(out, rows)
    return len(rows)


def _write(out: Path, rows: list[dict[str, object]]) -> None:
    here = Path(__file__).parent
    table = (out / "needle.jsonl").resolve()
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shutil.copy(here / "needle.py", out / "needle.py")
    task = (here / "needle.yaml").read_text(encoding="utf-8")
    (out / "needle.yaml").write_text(task.replace("needle.jsonl", json.dumps(str(table))), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder of the task")
    parser.add_argument("--frames", type=int, default=64, help="frames of a haystack")
    parser.add_argument("--each", type=int, default=4, help="questions per video")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=None, help="shrink frames to this longer side, in pixels")
    asked = parser.parse_args()
    count = build(asked.videos, asked.out, asked.frames, asked.each, asked.seed, asked.side)
    sys.stderr.write(f"{count} questions in {asked.out}: --include-path {asked.out} --tasks framefusion_needle\n")


if __name__ == "__main__":
    main()
