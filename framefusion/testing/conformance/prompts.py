"""`python -m framefusion.testing.conformance.prompts`: what a prompt with a video looks like, family by family.

Writes `docs/prompts.md` from what the families' own processors make of a clip of ten seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from framefusion.core.errors import UnsupportedModelError
from framefusion.testing.conformance.oracle import NotRun, Oracle
from framefusion.testing.conformance.reading import OPTIONS
from framefusion.testing.conformance.toy import names
from framefusion.testing.conformance.visuals import Visual, clip

PAGE = Path("docs/prompts.md")
RATE, SECONDS, HEIGHT, WIDTH = 24, 10, 360, 640
HEAD = """\
# What a prompt looks like

Written by `python -m framefusion.testing.conformance.prompts` with transformers {release}; tests make rows again and
compare. A clip of 10 s, 640 x 360 at 24 frames per second, is given to the family's own processor with the defaults of
its class, sampling included. **Frames** and **grid** are those of the layout, which the column `video` of
[the models' table](models.md) checks. **Between** is the text between the first two frames, as the tokenizer writes it.
**Five frames** says how many frames of the layout five given frames become: where two are one, the last is repeated.
ERNIE 4.5 VL's class names no rate either and takes every frame, up to 180, two of which make one of the layout.
Classes whose defaults say no rate (Qwen2-VL, InternVL, SmolVLM, VideoLLaMA 3 and those that take their processors)
cannot sample by themselves; their rows are made with `fps=2`.

A clip ends where text or sizes say so. MiniCPM-V 4.7 numbers its pictures but not its videos, and its processor keeps
the count of their frames to itself: two videos that touch look like one of twice the frames, and those of one size are
read as one. A word or a line break between them parts them. A still picture is never a
frame. InternVL and SmolVLM show the frames of a video as pictures: the stamp in front of each frame (`Frame1: `,
`Frame from 00:01:`) makes them frames, and pictures that a question numbers in the very same way are read as frames.
Families without video input take a clip as pictures, and `framefusion.reduce(model, method, pictures_are_frames=True)`
says that neighbouring pictures of one size are its frames; the command does so by itself.

| family | frames | grid | between | five frames |
|---|---|---|---|---|
"""


def _video_processors() -> frozenset[str]:
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

    return frozenset(VIDEO_PROCESSOR_MAPPING_NAMES)


VIDEO_PROCESSORS = _video_processors()


def row(name: str, class_name: str) -> str | None:
    """The line of one family, None where it takes no videos."""
    try:
        oracle = Oracle(name, class_name)
    except UnsupportedModelError:
        return None
    except NotRun as error:
        return f"| `{name}` | not run: {_plain(str(error))} | | | |" if name in VIDEO_PROCESSORS else None
    if not oracle.takes_video:
        return None
    most = OPTIONS.get(name, {}).get("frames")
    whole, note = [Visual("video", clip(RATE * SECONDS, HEIGHT, WIDTH)[:most])], ""
    try:
        try:
            inputs = oracle.inputs(whole, sample=True, rate=float(RATE))
        except NotRun:
            inputs, note = oracle.inputs(whole, sample=True, rate=float(RATE), fps=2), " at `fps=2`"
        few = oracle.inputs([Visual("video", clip(5)[:most])])
    except NotRun as error:
        return f"| `{name}` | not run: {_plain(str(error))} | | | |"
    ((geometry, placement),) = oracle.layout(inputs).rows
    ((five, _),) = oracle.layout(few).rows
    frames = int(geometry.frame.max()) + 1
    first = geometry.frame == 0
    rows, columns = (int(side[first].max()) + 1 for side in (geometry.row, geometry.column))
    grid = f"{rows} x {columns}" if rows else f"{int(first.sum())} queries"
    between = _between(oracle, inputs, geometry, placement)
    return f"| `{name}` | {frames}{note} | {grid} | {between} | {int(five.frame.max()) + 1} |"


def _between(oracle: Oracle, inputs: Any, geometry: Any, placement: Any) -> str:
    if not bool((geometry.frame == 1).any()):
        return ""
    end = int(placement.columns[geometry.frame == 0][-1]) + 1
    start = int(placement.columns[geometry.frame == 1][0])
    text = oracle.reader.tokenizer.decode(inputs["input_ids"][0, end:start])
    return f"`{_plain(text)}`" if text else "nothing"


def _plain(text: str) -> str:
    return text.replace("\n", "\\n").replace("|", "\\|")


def rows() -> Iterator[str]:
    for name, class_name in names():
        line = row(name, class_name)
        if line is not None:
            yield line


def main() -> int:
    import transformers

    lines = list(rows())
    PAGE.write_text(HEAD.format(release=transformers.__version__) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {len(lines)} families to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
