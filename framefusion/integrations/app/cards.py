"""Everything the page shows, as HTML. Every text from outside passes `_text`, so none of it is an element."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from framefusion.core.text import visible
from framefusion.evaluation.view.page import figures, map_page
from framefusion.inference.answer.answer import TIMED_WEIGHTS, Answer

if TYPE_CHECKING:
    from framefusion.core.errors import FrameFusionError
    from framefusion.inference.video import Clip
    from framefusion.integrations.app.answering import Progress

_STRIP, _HIGH, _WIDE, _QUALITY = 8, 96, 384, 70
NAMES = ("dense", "reduced")
PARTS = ("reading the clip", "processor", "vision tower", "projector", "prompt, rest", "answer")


def _text(text: object) -> str:
    return html.escape(visible(text))


def problem(error: FrameFusionError) -> str:
    """What could not be done, why, and a hint."""
    why = f"<p>{_text(error.why)}</p>" if error.why else ""
    hint = f'<p class="ff-hint">hint: {_text(error.hint)}</p>' if error.hint else ""
    return f'<div class="ff-problem" role="alert"><p><b>{_text(error.what)}</b></p>{why}{hint}</div>'


def doing(what: str) -> str:
    return f'<p class="ff-doing" role="status">{_text(what)} …</p>' if what else ""


def method_line(title: str, summary: str) -> str:
    return f"<b>{_text(title)}</b> {_text(summary)}"


class Thumbnails:
    """Frames as large as a strip shows them. full: (height, width) they had, None before one was decoded."""

    full: tuple[int, int] | None = None

    def size(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        self.full = height, width
        scale = min(_HIGH / height, _WIDE / width)
        return (max(1, round(height * scale)), max(1, round(width * scale))) if scale < 1 else None

    def frame(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        from PIL import Image

        return np.asarray(Image.fromarray(picture).resize(size[::-1]))


def strip(clip: Clip, full: tuple[int, int] | None = None) -> str:
    """Some frames of a clip and what is known of it. full: (height, width) of its file, None for that of the frames."""
    count = len(clip.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _STRIP)).round().astype(int))
    pictures = "".join(f'<img alt="frame {n + 1}" src="{_data_address(clip.frames[n])}">' for n in chosen.tolist())
    height, width = full or clip.frames.shape[1:3]
    size = f"{width} × {height}"
    about = f"{size}, a picture" if clip.still else f"{size}, {clip.duration:.1f} s"
    if not clip.still:
        about += f", {count} of {clip.total_frames} frames read"
    damaged = ", damaged" if clip.damaged else ""
    return (
        f'<div class="ff-clip"><div class="ff-strip">{pictures}</div><p><b>{_text(clip.source)}</b> '
        f"<small>{about}{damaged}</small></p></div>"
    )


def _data_address(frame: np.ndarray) -> str:
    from PIL import Image

    small, held = Image.fromarray(frame), io.BytesIO()
    small.thumbnail((_WIDE, _HIGH))
    small.save(held, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode("ascii")


def both(progress: Progress) -> str:
    """The answers side by side, as far as they have come, and what is to be known of them."""
    return f'<div class="ff-pair">{"".join(_answer(name, progress) for name in NAMES)}</div>{_notes(progress.notes)}'


def _notes(notes: Iterable[str]) -> str:
    return f'<ul class="ff-notes">{"".join(f"<li>{_text(note)}</li>" for note in notes)}</ul>'


def _answer(name: str, progress: Progress) -> str:
    complete = progress.dense if name == "dense" else progress.reduced
    words = progress.words.get(name)
    state = "waiting" if words is None else "complete" if complete is not None else "writing"
    shown = _text(words) if words else "(nothing)" if complete is not None else ""
    tokens = f"<small>{complete.kept_tokens:,} visual tokens</small>" if complete is not None else ""
    return (
        f'<section class="ff-answer ff-{name}" data-answer="{name}" data-state="{state}" aria-label="{name} answer">'
        f"<h3>{name} {tokens}</h3><p>{shown}</p></section>"
    )


def took(progress: Progress, reading_ms: float) -> str:
    """Figures, and where the time went. reading_ms: of the clip, which is the same for both."""
    dense, reduced = progress.dense, progress.reduced
    assert dense is not None and reduced is not None
    rows = "".join(
        f"<tr><th>{_text(each['name'])}</th><td>{_text(each['dense'])}</td><td>{_text(each['reduced'])}</td></tr>"
        for each in figures(dense, reduced, timed=False)
    )
    before = {"reading": reading_ms, **progress.before}
    times = {name: parts(answer, before) for name, answer in zip(NAMES, (dense, reduced), strict=True)}
    longest = max(sum(spent.values()) for spent in times.values()) or 1.0
    bars = "".join(f"<tr><th>{name}</th><td>{_bar(spent, longest)}</td></tr>" for name, spent in times.items())
    head = f"<tr><td></td>{''.join(f'<th>{name}</th>' for name in NAMES)}</tr>"
    remark = "" if progress.timed else f"<p><small>{SMALL}</small></p>"
    return (
        f'<div class="ff-took"><table class="ff-figures"><tbody>{head}{rows}{_times(times)}</tbody></table>'
        f'<h3>Where the time went</h3><table class="ff-bars"><tbody>{bars}</tbody></table>'
        f'<p class="ff-key">{_key(times.values())}</p>{remark}</div>'
    )


SMALL = (
    f"A model of fewer than {TIMED_WEIGHTS // 10**6} million weights takes as long as Python needs to call it, "
    "whatever it reads: its times do not compare dense and reduced."
)


def parts(answer: Answer, before: dict[str, float]) -> dict[str, float]:
    """Milliseconds of each part of an answer that there was."""
    tower, projector = answer.tower_ms, answer.projector_ms
    rest = answer.prefill_ms - (tower or 0.0) - (projector or 0.0)
    writing = answer.decode_ms * max(0, answer.new_tokens - 1)
    found = dict(zip(PARTS, (before["reading"], before["processor"], tower, projector, rest, writing), strict=True))
    return {name: ms for name, ms in found.items() if ms}


def _times(times: dict[str, dict[str, float]]) -> str:
    rows = [(name, [spent.get(name) for spent in times.values()]) for name in PARTS]
    rows.append(("all together", [sum(spent.values()) for spent in times.values()]))
    return "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{_ms(value)}</td>' for value in values)}</tr>"
        for name, values in rows
        if any(values)
    )


def _ms(value: float | None) -> str:
    return "" if not value else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _bar(spent: dict[str, float], longest: float) -> str:
    pieces = "".join(
        f'<span class="ff-part-{PARTS.index(name)}" style="width:{100 * ms / longest:.2f}%" title="{name}: {_ms(ms)}">'
        "</span>"
        for name, ms in spent.items()
    )
    return f'<div class="ff-bar">{pieces}</div>'


def _key(times: Iterable[dict[str, float]]) -> str:
    there = {name for spent in times for name in spent}
    return " ".join(
        f'<span><i class="ff-part-{number}"></i>{name}</span>' for number, name in enumerate(PARTS) if name in there
    )


def token_map(progress: Progress) -> str:
    """The map in a frame of its own, whose script can reach neither the page nor a network."""
    if progress.undrawn is not None:
        return problem(progress.undrawn)
    if progress.scene is None:
        return ""
    inner = html.escape(map_page(progress.scene))
    return (
        f'<iframe class="ff-map" title="token map" sandbox="allow-scripts" srcdoc="{inner}"></iframe>'
        f"{_notes(note for note in progress.scene.notes if note not in progress.notes)}"
    )
