"""A few frames of a long video file: by seeking, as `load_clip` does, and by decoding everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.timing import Laps

WIDTH, HEIGHT, FPS = 320, 240, 30
MINUTES = 6
"""The file repeats a recording of this length, whose packets are copied."""

PART = "CPU of all threads"


class Reading:
    """seeking: the library. everything: its own pass over the file, after the same look at its stream."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        import av

        from framefusion.inference.video import load_clip

        self.frames, self.path = cell.frames, folder / "long.mp4"
        _write(folder / "short.mp4", self.path, cell.minutes // MINUTES)
        size = self.path.stat().st_size / 2**20
        video = f"{cell.minutes} minutes of {WIDTH} × {HEIGHT}, H.264 with B-frames, {size:.0f} MiB"
        self.facts: dict[str, Any] = {"video": video, "pyav": av.__version__}
        self.load = load_clip

    def runs(self) -> dict[str, Callable[[], Laps]]:
        return {"seeking": self.seeking, "everything": self.everything}

    def seeking(self) -> Laps:
        started = time.process_time()
        self.load(self.path, frames=self.frames)
        return {PART: (time.process_time() - started) * 1e3}

    def everything(self) -> Laps:
        from framefusion.inference.video import seek

        enough = seek.LARGEST_SHARE
        seek.LARGEST_SHARE = 0.0
        try:
            return self.seeking()
        finally:
            seek.LARGEST_SHARE = enough


def _write(short: Path, long: Path, times: int) -> None:
    import av

    with av.open(str(short), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"preset": "veryfast"}
        for number in range(MINUTES * 60 * FPS):
            frame = av.VideoFrame.from_ndarray(_picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(str(long), "w") as output:
        stream, start = None, 0
        for _ in range(times):
            with av.open(str(short)) as source:
                video = source.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, stream
                    output.mux(packet)
                start += int(MINUTES * 60 / video.time_base)


def _picture(number: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: a slope that drifts, and a square that crosses it."""
    slope = (np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) + number) % 256
    picture = np.repeat(slope.astype(np.uint8)[:, :, None], 3, axis=2)
    left = number * 2 % (WIDTH - 40)
    picture[100:140, left : left + 40] = (255, 64, number % 256)
    return picture
