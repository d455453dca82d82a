"""One row of the result: a clip, a question, and its answer or what stood in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from framefusion.core import errors
from framefusion.core.errors import FrameFusionError
from framefusion.core.lines import check_types, line_of, read_object

Key = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """Columns of the result; numbers are None where there was no answer.

    path: absolute. answer: None where error says why. error_type, error, why, hint: the error's class and three parts.
    damaged: part of the file could not be read. frames: read by the model; total_frames, duration_s: of the file.
    prompt_tokens, visual_tokens: columns of the prompt, and those of them that are pictures. kept_tokens: visual tokens
    alive after the last layer; kept_fraction: their share. cost: visual tokens a layer reads, mean over layers, as a
    share of all. new_tokens: generated. video_ms: to read the file. prefill_ms: to the first token, vision tower
    included. decode_ms: per further token. kv_bytes: what the cache holds at the end. peak_bytes: of the run.
    settings: JSON of what answered: model, method with options, frames, length, versions.
    """

    path: str
    question: str
    answer: str | None = None
    error_type: str | None = None
    error: str | None = None
    why: str | None = None
    hint: str | None = None
    damaged: bool | None = None
    frames: int | None = None
    total_frames: int | None = None
    duration_s: float | None = None
    prompt_tokens: int | None = None
    visual_tokens: int | None = None
    kept_tokens: int | None = None
    kept_fraction: float | None = None
    cost: float | None = None
    new_tokens: int | None = None
    video_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    kv_bytes: int | None = None
    peak_bytes: int | None = None
    settings: str = ""

    @property
    def key(self) -> Key:
        """What is answered once."""
        return self.path, self.question

    def to_line(self) -> str:
        """One line of JSON, without its end."""
        return line_of(asdict(self))

    @staticmethod
    def from_line(line: str | bytes) -> Row | None:
        """None for a line that is torn or no row."""
        try:
            return Row.from_values(read_object(line))
        except (ValueError, TypeError):
            return None

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> Row:
        """Columns this version does not know are left out. Raises TypeError where a value is none of its column."""
        known = {name: value for name, value in values.items() if name in NAMES}
        check_types(Row, known, infinite=NAMES)
        return Row(**known)


NAMES = tuple(field.name for field in fields(Row))
# What every line begins with, also one that was cut or changed by hand.
HEAD = b'{"path": "'


def error_of(row: Row) -> FrameFusionError | None:
    """The error of a row as an exception again; None where it has none, or one that is not of this package."""
    kind = getattr(errors, row.error_type or "", None)
    if not (isinstance(kind, type) and issubclass(kind, FrameFusionError)):
        return None
    return kind(row.error or "", row.why or "", row.hint or "")


def failed(path: str, question: str, error: BaseException, settings: str) -> Row:
    """The row of a clip that could not be answered."""
    if isinstance(error, FrameFusionError):
        parts = (error.what, error.why, error.hint)
    else:
        lines = str(error).strip().split("\n")
        parts = (f"{path} could not be answered", f"{type(error).__name__}: {lines[0]}" if lines[0] else "", "")
    what, why, hint = (part or None for part in parts)
    return Row(path, question, error_type=type(error).__name__, error=what, why=why, hint=hint, settings=settings)
