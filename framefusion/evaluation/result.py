"""What an evaluation found, in numbers a table, a plot and a JSON document are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from framefusion.evaluation.paired import Interval, Paired, paired, proportion
from framefusion.evaluation.records import Record
from framefusion.evaluation.runner import Arm

if TYPE_CHECKING:
    from framefusion.evaluation.cells import Cell
    from framefusion.inference.answer.checkpoint import Checkpoint

Role = Literal["method", "control"]


@dataclass(frozen=True)
class Contender:
    """An arm and its part in the comparison.

    label: its name, with options where two of a name compete. target: equivalent cost asked for, None for a method as
    configured. decision_ms: milliseconds its decision takes per prompt, None where nobody measured them.
    """

    label: str
    arm: Arm
    role: Role
    target: float | None
    decision_ms: float | None = None


@dataclass(frozen=True)
class Score:
    """How one arm did. kept_fraction, cost, confidence, patches_share (that entered the vision tower): means over
    questions; prefill_ms, ms: medians per question.
    """

    questions: int
    accuracy: Interval
    by_kind: Mapping[str, Interval]
    kept_fraction: float
    cost: float
    confidence: float
    prefill_ms: float
    ms: float
    kv_bytes: float
    patches_share: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return numbers | {
            "accuracy": self.accuracy.value,
            "interval": [self.accuracy.low, self.accuracy.high],
            "by_kind": {kind: found.value for kind, found in self.by_kind.items()},
            "by_kind_intervals": {kind: [found.low, found.high] for kind, found in self.by_kind.items()},
        }


@dataclass(frozen=True)
class Entry:
    """A method at one budget. label, target, decision_ms: see `Contender`.

    cell: key of its records. against_dense: paired with the dense answers to the same questions; its `share` is
    the retained accuracy.
    """

    label: str
    method: str
    options: Mapping[str, Any]
    role: Role
    target: float | None
    cell: str
    score: Score
    against_dense: Paired
    decision_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        plain = ("label", "method", "options", "role", "target", "cell", "decision_ms")
        parts = {name: getattr(self, name) for name in plain}
        return parts | self.score.to_dict() | {"against_dense": paired_dict(self.against_dense)}


@dataclass(frozen=True)
class Comparison:
    """The method against one control at the same target cost, paired, and for each kind alone. Both are labels."""

    method: str
    control: str
    target: float | None
    overall: Paired
    by_kind: Mapping[str, Paired]

    def to_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("method", "control", "target")}
        kinds = {kind: paired_dict(found) for kind, found in self.by_kind.items()}
        return parts | paired_dict(self.overall) | {"by_kind": kinds}


@dataclass(frozen=True)
class Evaluation:
    """Dense, reduced and controls on the same questions; `evaluate` makes it.

    `reduced` is the first entry: the method at the first budget.

    Args:
        model: name of the checkpoint.
        samples: how many questions were asked.
        seed: which ones.
        kinds: of which kinds they are.
        chance: accuracy of guessing, over all questions.
        chance_by_kind: the same for each kind.
        dense: how the model did as it is.
        entries: the method and the controls at every budget.
        comparisons: the method against each control at the same cost, on the same questions.
        notes: what a reader should know besides.
        records: the file of answers, None if they were kept in memory.
        setup: dtype, device and how questions were put.

    Example:
        >>> from framefusion.evaluation import Records
        >>> asked = {"samples": 4, "kinds": ["colour"], "records": Records(None)}
        >>> found = ff.evaluate(checkpoint, ff.FrameFusion(), controls=[ff.Random()], **asked)
        >>> [entry.label for entry in found.entries], len(found.comparisons)
        (['framefusion', 'random'], 1)
    """

    model: str
    samples: int
    seed: int
    kinds: tuple[str, ...]
    chance: float
    chance_by_kind: Mapping[str, float]
    dense: Score
    entries: tuple[Entry, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    records: str | None = None
    setup: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reduced(self) -> Entry:
        """The method at its first budget."""
        return self.entries[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is undefined (a share of nothing) is None."""
        plain = (
            "model",
            "samples",
            "seed",
            "kinds",
            "chance",
            "chance_by_kind",
            "notes",
            "records",
            "setup",
        )
        return plain_json(
            {name: getattr(self, name) for name in plain}
            | {
                "dense": self.dense.to_dict(),
                "reduced": self.reduced.to_dict(),
                "entries": [entry.to_dict() for entry in self.entries],
                "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            }
        )


def evaluation_of(
    checkpoint: Checkpoint,
    dense: Cell,
    contenders: Sequence[Contender],
    answers: Mapping[str, Sequence[Record]],
    chance: Mapping[str, float],
    *,
    seed: int,
    notes: Sequence[str],
    records: Path | None,
) -> Evaluation:
    """answers: by cell key, to the same questions in the same order. chance: by kind."""
    kinds, base = tuple(chance), answers[dense.key]
    entries = [_entry(one, answers[one.arm.cell.key], base, kinds) for one in contenders]
    return Evaluation(
        model=checkpoint.name,
        samples=len(base),
        seed=seed,
        kinds=kinds,
        chance=fmean(chance[record.kind] for record in base),
        chance_by_kind=chance,
        dense=score(base, kinds),
        entries=tuple(entries),
        comparisons=tuple(_comparisons(contenders, answers, kinds)),
        notes=tuple(dict.fromkeys(notes)),
        records=None if records is None else str(records),
        setup={**dense.setup, "weights": dense.weights, "versions": dense.versions},
    )


def _entry(one: Contender, answers: Sequence[Record], dense: Sequence[Record], kinds: Sequence[str]) -> Entry:
    cell = one.arm.cell
    return Entry(
        one.label,
        cell.method,
        cell.options,
        one.role,
        one.target,
        cell.key,
        score(answers, kinds),
        compare(answers, dense),
        one.decision_ms,
    )


def _comparisons(
    contenders: Sequence[Contender], answers: Mapping[str, Sequence[Record]], kinds: Sequence[str]
) -> Iterator[Comparison]:
    """Every control with every method at its target."""
    for one in contenders:
        for best in contenders:
            if one.role == "control" and best.role == "method" and best.target == one.target:
                first, second = answers[best.arm.cell.key], answers[one.arm.cell.key]
                by_kind = {kind: compare(first, second, kind) for kind in kinds}
                yield Comparison(best.label, one.label, one.target, compare(first, second), by_kind)


def score(records: Sequence[Record], kinds: Sequence[str]) -> Score:
    """records: of one cell, at least one."""
    return Score(
        questions=len(records),
        accuracy=proportion([record.correct for record in records]),
        by_kind={kind: proportion([record.correct for record in records if record.kind == kind]) for kind in kinds},
        kept_fraction=fmean(record.kept_fraction for record in records),
        cost=fmean(record.cost for record in records),
        confidence=fmean(record.confidence for record in records),
        prefill_ms=median(record.prefill_ms for record in records),
        ms=median(record.ms for record in records),
        kv_bytes=fmean(record.kv_bytes for record in records),
        patches_share=fmean(record.patches_share for record in records),
    )


def compare(first: Sequence[Record], second: Sequence[Record], kind: str | None = None) -> Paired:
    """first, second: answers to the same questions in the same order. kind: only these count."""
    pairs = [pair for pair in zip(first, second, strict=True) if kind in (None, pair[0].kind)]
    right, other = [one.correct for one, _ in pairs], [two.correct for _, two in pairs]
    return paired(right, other, [one.kind for one, _ in pairs])


def paired_dict(found: Paired) -> dict[str, Any]:
    return {
        "difference": found.difference.value,
        "difference_interval": [found.difference.low, found.difference.high],
        "share": found.share.value,
        "share_interval": [found.share.low, found.share.high],
        "wins": found.wins,
        "losses": found.losses,
        "p_value": found.p_value,
    }


def plain_json(value: Any) -> Any:
    """Values that JSON has; a number that is none becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
