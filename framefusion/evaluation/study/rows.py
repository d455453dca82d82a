"""One row of numbers per cell of a study."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from framefusion.core.errors import RecordsError
from framefusion.core.lines import check_types, is_number, line_of, read_object
from framefusion.evaluation.paired import Interval, Paired, proportion
from framefusion.evaluation.records import Record
from framefusion.evaluation.result import compare, paired_dict, plain_json
from framefusion.evaluation.study.confidence import calibration_error, overconfidence
from framefusion.evaluation.study.tasks import task_of, tasks_of
from framefusion.inference.quantization.memory import HALF
from framefusion.inference.quantization.precision import Precision

# What every line begins with.
HEAD = b'{"id": "'
BYTES_OF = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class Row:
    """One method at one budget in one precision.

    id: how pages cite it. budget: equivalent cost asked for; cost, kept: as measured, means over questions.
    weights, activations, kv: widths, "16", "int4" of a library or "sim4". tasks: accuracy by family of kinds.
    against: paired with the dense model at the widest precision. halves: accuracy on every other question of each
    kind, from the first and from the second, so that what was chosen on one half can be judged on the other.
    weight_bytes, kv_bytes: of the model, and of the cache of one prompt with its answer. What is not quantised, scales
    of groups included, counts two bytes a value in every row, whether a library quantised the rest or a simulation did.
    confidence, calibration_error, overconfidence: None where whoever asked kept no probabilities.
    prefill_ms, ms: medians per question, None where a part is simulated and times say nothing.
    origin: what the answers came from: a digest of the weights, device, dtype, digest of the code, versions.
    """

    id: str
    cell: str
    method: str
    options: Mapping[str, Any]
    budget: float
    weights: str
    activations: str
    kv: str
    attention: str | None
    questions: int
    accuracy: Interval
    tasks: Mapping[str, Interval]
    kinds: Mapping[str, float]
    halves: tuple[float, float]
    against: Paired
    cost: float
    kept: float
    confidence: float | None
    calibration_error: float | None
    overconfidence: float | None
    prompt_tokens: float
    weight_bytes: float
    kv_bytes: float
    prefill_ms: float | None
    ms: float | None
    origin: Mapping[str, Any]

    @property
    def simulated(self) -> bool:
        """Whether any part is; such rows share no column with a library's unmarked."""
        parts = (self.weights, self.activations, self.kv)
        return any(part.startswith("sim") for part in parts) or self.attention == "sage-emulated"

    def to_line(self) -> str:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["accuracy"] = _ends(self.accuracy)
        data["tasks"] = {task: _ends(found) for task, found in self.tasks.items()}
        return line_of(plain_json(data | {"against": paired_dict(self.against)})) + "\n"

    @staticmethod
    def from_line(line: str | bytes) -> Row:
        """Raises RecordsError for a line that is no row."""
        try:
            data = read_object(line)
            check_types(Row, data)
            data["accuracy"] = _interval(data["accuracy"])
            data["tasks"] = {task: _interval(found) for task, found in data["tasks"].items()}
            data["kinds"] = {kind: _number(found) for kind, found in data["kinds"].items()}
            first, second = map(_number, data["halves"])
            data["halves"] = first, second
            pair = data["against"]
            against = {
                "difference": _interval([pair["difference"], *pair["difference_interval"]]),
                "share": _interval([pair["share"], *pair["share_interval"]]),
                **{name: pair[name] for name in ("wins", "losses", "p_value")},
            }
            check_types(Paired, against)
            return Row(**data | {"against": Paired(**against)})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecordsError("a line of the study's file is no row", str(error), "run the study again") from error


def is_study(path: Path) -> bool:
    """Whether a file holds rows of a study, be they damaged since."""
    with path.open("rb") as file:
        return file.readline().startswith(HEAD)


def row_of(
    method: str,
    budget: float,
    precision: Precision,
    answers: Sequence[Record],
    reference: Sequence[Record],
    weight_bytes: float,
    timed: bool,
) -> Row:
    """answers, reference: to the same questions, in the same order."""
    cell, kinds = answers[0].cell, sorted({record.kind for record in answers})
    right, sure = [record.correct for record in answers], [record.confidence for record in answers]
    grouped = [replace(record, kind=task_of(record.kind)) for record in answers]
    return Row(
        **head_of(method, budget, precision),
        cell=cell.key,
        options=cell.options,
        questions=len(answers),
        accuracy=proportion(right),
        tasks={
            task: proportion([record.correct for record in grouped if record.kind == task]) for task in tasks_of(kinds)
        },
        kinds={kind: fmean(record.correct for record in answers if record.kind == kind) for kind in kinds},
        halves=shares(right, [record.kind for record in answers]),
        against=compare(answers, reference),
        cost=fmean(record.cost for record in answers),
        kept=fmean(record.kept_fraction for record in answers),
        confidence=fmean(sure),
        calibration_error=calibration_error(sure, right),
        overconfidence=overconfidence(sure, right),
        prompt_tokens=fmean(record.prompt_tokens for record in answers),
        weight_bytes=weight_bytes,
        kv_bytes=fmean(record.kv_bytes for record in answers) * in_half(cell.setup["dtype"], precision),
        prefill_ms=median(record.prefill_ms for record in answers) if timed else None,
        ms=median(record.ms for record in answers) if timed else None,
        origin={
            "weights": cell.weights,
            "device": cell.setup["device"],
            "dtype": cell.setup["dtype"],
            "first_question": answers[0].seed,
            **cell.versions,
        },
    )


def head_of(method: str, budget: float, precision: Precision) -> dict[str, Any]:
    """What of a row says which cell it is."""
    widths = {name: str(getattr(precision, name)) for name in ("weights", "activations", "kv")}
    attention = precision.attention
    id = f"{method} {budget:g} {short(**widths, attention=attention)}"
    return {"id": id, "method": method, "budget": budget, **widths, "attention": attention}


def short(weights: str, activations: str, kv: str, attention: str | None = None) -> str:
    """ "W4* A16 KV2*": widths, with an asterisk where they are simulated."""
    parts = zip(("W", "A", "KV"), (weights, activations, kv), strict=True)
    words = [f"{name}{width.removeprefix('int').removeprefix('sim')}{'*' * ('sim' in width)}" for name, width in parts]
    return " ".join([*words, *([attention] if attention else [])])


def read_rows(text: str) -> list[Row]:
    return [Row.from_line(line) for line in text.split("\n") if line.strip()]


def in_half(dtype: str, precision: Precision) -> float:
    """A cache that was not quantised counts two bytes a value, whatever the machine computed with.

    One that was, really or simulated, is counted so from the start (`quantization.memory.cache_bytes`).
    """
    return HALF / BYTES_OF.get(dtype, HALF) if precision.kv.full else 1.0


def shares(scores: Sequence[float], kinds: Sequence[str]) -> tuple[float, float]:
    """Means of every other score of each kind, from the first and from the second, so that both halves ask alike."""
    seen: Counter[str] = Counter()
    parts: tuple[list[float], list[float]] = [], []
    for score, kind in zip(scores, kinds, strict=True):
        parts[seen[kind] % 2].append(score)
        seen[kind] += 1
    first, second = (fmean(part) if part else math.nan for part in parts)
    return first, second


def _ends(found: Interval) -> list[float]:
    return [found.value, found.low, found.high]


def _interval(ends: Sequence[float | None]) -> Interval:
    value, low, high = map(_number, ends)
    return Interval(value, low, high)


def _number(value: float | None) -> float:
    """What a line holds for a number; null for one that is none. Raises TypeError for anything else."""
    if value is not None and not is_number(value):
        raise TypeError(f"{value!r} is not a number")
    return math.nan if value is None else value
