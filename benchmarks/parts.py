"""From the file to the answer, part by part: decoding, vision tower, projector, language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.cells import Cell
from benchmarks.shapes import FRAMES_PER_STEP, MERGE, PATCH
from benchmarks.timing import Laps, Watch


def grid_of(cell: Cell) -> tuple[int, int, int]:
    """Time steps, rows and columns of patches in front of the merger; the picture is square."""
    side = round(cell.patches**0.5) * MERGE
    return cell.frames, side, side


class Tower:
    """Times decoding, tower and projector of one clip. The file is written once, its frames drawn from a seed."""

    def __init__(self, cell: Cell, model: Any, dtype: torch.dtype, device: torch.device, folder: Path) -> None:
        self.cell, self.tower, self.dtype, self.device = cell, model.model.visual, dtype, device
        self.grid = grid_of(cell)
        self.frames = cell.frames * FRAMES_PER_STEP
        self.path = folder / "clip.mp4"
        self._write(self.grid[1] * PATCH)

    def _write(self, side: int) -> None:
        from framefusion.inference.video import write_clip

        draw = np.random.default_rng(3)
        coarse = draw.random((self.frames // 8 + 2, 3, 9, 9), dtype=np.float32)
        smooth = F.interpolate(
            torch.from_numpy(coarse).transpose(0, 1)[None], size=(self.frames, side, side), mode="trilinear"
        )[0]
        frames = (smooth.permute(1, 2, 3, 0) * 255).to(torch.uint8).numpy()
        write_clip(self.path, np.ascontiguousarray(frames), fps=8)

    def run(self) -> Laps:
        """Milliseconds of the parts before the language model."""
        from framefusion.inference.video import load_clip

        watch = Watch(self.device)
        clip = load_clip(self.path, frames=self.frames)
        laps = {"decode of the video": watch.lap()}
        pixels = self._patches(torch.from_numpy(np.asarray(clip.frames)))
        laps["preprocessing"] = watch.lap()
        merger, spent = self.tower.merger, []
        begin = merger.register_forward_pre_hook(lambda *_: spent.append(watch.lap()))
        end = merger.register_forward_hook(lambda *_: spent.append(watch.lap()))
        try:
            with torch.no_grad():
                self.tower(pixels, torch.tensor([self.grid], device=self.device))
        finally:
            begin.remove()
            end.remove()
        laps["vision tower"], laps["projector"] = spent
        return laps

    def _patches(self, frames: Any) -> Any:
        """(T, H, W, 3) bytes -> the tower's patches (steps * rows * columns, channels * time * pixels)."""
        steps, rows, columns = self.grid
        video = frames.to(self.device).permute(0, 3, 1, 2).to(self.dtype).div(127.5).sub(1.0)
        video = F.interpolate(video, size=(rows * PATCH, columns * PATCH), mode="bilinear")
        video = video.view(steps, FRAMES_PER_STEP, 3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
        return video.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(steps * rows * columns, -1)
