"""Everything there is to show of some media, one question and one method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from framefusion.core.errors import LayoutError
from framefusion.core.layout import PATCH
from framefusion.evaluation.view.background_images import backdrops
from framefusion.evaluation.view.token_history import NOBODY, TokenHistory, history_of_row
from framefusion.inference.answer.answer import shows_times
from framefusion.inference.media import is_address
from framefusion.inference.tiny.known import remarks

if TYPE_CHECKING:
    from framefusion.core.layout import Geometry
    from framefusion.core.method import Method
    from framefusion.inference.answer.answer import Answer
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.report import PromptReport, Report
    from framefusion.inference.video import Clip

FLATTEST = 4.0
"""A single row of patches belongs to a picture; one more than this many times wider than the picture does not."""


@dataclass(frozen=True)
class Picture:
    """One grid of patches: a frame, the frames of one time step, or a tile.

    cells: (rows, columns) number of the token at each place, NOBODY where the prompt has none. image: behind it, None
    where there is none to show.
    """

    name: str
    cells: np.ndarray
    image: Image.Image | None


@dataclass(frozen=True)
class Scene:
    """pictures: in prompt order. history: of the tokens their cells name. prompt: figures of the reduced prompt.
    dense: None where the model was not asked without reduction. timed: its times say something about tokens.
    repeats: (N,) token whose encoding each one shows, itself where the vision tower encoded it; None where it took all.
    """

    source: str
    question: str
    model: str
    method: str
    pictures: tuple[Picture, ...]
    history: TokenHistory
    prompt: PromptReport
    reduced: Answer
    dense: Answer | None = None
    timed: bool = True
    repeats: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())


def scene_of(
    checkpoint: Checkpoint,
    media: tuple[Clip, ...],
    question: str,
    inputs: Mapping[str, Any],
    method: Method,
    reduced: Answer,
    dense: Answer | None = None,
) -> Scene:
    """inputs: what the processor made of media and question. Raises LayoutError where there is no patch to draw."""
    report = reduced.report
    assert report is not None
    geometry = _geometry(report)
    assert report.last is not None
    grids = grids_of(geometry)
    behind = backdrops(len(grids), checkpoint, inputs, media)
    pictures = tuple(
        Picture(name, cells, None if pixels is None else Image.fromarray(pixels))
        for cells, (name, pixels) in zip(grids, behind, strict=True)
        if _is_grid(cells, pixels)
    )
    if not pictures:
        raise _no_grid("no rows and columns are known for them")
    return Scene(
        source=", ".join(name_of(clip.source) for clip in media),
        question=question,
        model=checkpoint.name,
        method=repr(method),
        pictures=pictures,
        history=history_of_row(report),
        prompt=report.last,
        reduced=reduced,
        dense=dense,
        timed=shows_times(checkpoint),
        repeats=report.repeats[0].numpy() if report.repeats else None,
        notes=tuple(_notes(checkpoint, method, media, question, len(grids) - len(pictures), report)),
    )


def grids_of(geometry: Geometry) -> list[np.ndarray]:
    """(rows, columns) token numbers of every picture with a grid, in prompt order; NOBODY where a place has no token.

    All pictures of a clip have the size of its largest: some processors drop patches that did not change.
    """
    clip, frame, row, column = (getattr(geometry, name).cpu().numpy() for name in ("clip", "frame", "row", "column"))
    patch = (geometry.kind.cpu().numpy() == PATCH) & (row >= 0) & (column >= 0)
    places: dict[tuple[int, int], np.ndarray] = {}
    for number in patch.nonzero()[0]:
        key = int(clip[number]), int(frame[number])
        if key not in places:
            same = patch & (clip == key[0])
            places[key] = np.full((row[same].max() + 1, column[same].max() + 1), NOBODY)
        places[key][row[number], column[number]] = number
    return list(places.values())


def _geometry(report: Report) -> Geometry:
    layout = report.layout
    if layout is None or not layout.rows or not len(layout.rows[0][0]):
        raise LayoutError(
            "there is nothing to see", "the prompt holds no visual tokens", "ask about a video or a picture"
        )
    geometry = layout.rows[0][0]
    if not bool(((geometry.kind == PATCH) & (geometry.row >= 0)).any()):
        raise _no_grid("their layout knows frames, but no rows and columns")
    return geometry


def _no_grid(why: str) -> LayoutError:
    return LayoutError(
        "the visual tokens of this prompt cannot be drawn", why, "`framefusion run` shows the counts of any model"
    )


def _is_grid(cells: np.ndarray, pixels: np.ndarray | None) -> bool:
    """Families nobody names lay a picture out as one row; where that cannot be its shape, it is no grid."""
    rows, columns = cells.shape
    ratio = 1.0 if pixels is None else pixels.shape[1] / pixels.shape[0]
    return rows > 1 or columns <= FLATTEST * ratio


def name_of(source: str) -> str:
    """The last part of a path; of an address, without what follows a question mark, where secrets may stand."""
    return Path(source.partition("?")[0] if is_address(source) else source).name or source


def _notes(
    checkpoint: Checkpoint, method: Method, media: tuple[Clip, ...], question: str, undrawn: int, report: Report
) -> list[str]:
    notes = [
        *remarks(checkpoint.name, media, question),
        *method.notes(checkpoint.family),
        *report.notes,
        *(report.last.notes if report.last else []),
    ]
    for clip in media:
        if clip.damaged:
            notes.append(f"The video is damaged; {len(clip.frames)} frames could be read.")
    if not any(step.tokens_in > step.tokens_out for step in report.steps):
        inside = any(stage.stream == "vision" for stage in method.stages())
        why = ": inside the vision tower it merged patches that are not tokens of this prompt" if inside else ""
        notes.append(f"The method took no token out of this prompt{why}.")
    if undrawn:
        notes.append(f"{undrawn} pictures are not drawn: no rows and columns are known for them.")
    return list(dict.fromkeys(notes))
