"""A method against the dense model and against controls, on the same questions and at the same equivalent cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core import options
from framefusion.core.errors import OptionError
from framefusion.core.method import Method, checked_methods
from framefusion.core.options import Seed, Share, checked
from framefusion.core.registry import method as method_named
from framefusion.evaluation import fingerprint
from framefusion.evaluation.answers import Question, Yardstick
from framefusion.evaluation.cells import name_of
from framefusion.evaluation.context import ComparisonContext, Watcher
from framefusion.evaluation.equal_cost import cost_of, takes_shares
from framefusion.evaluation.records import Records, default_path
from framefusion.evaluation.result import Contender, Evaluation, Role, evaluation_of
from framefusion.evaluation.runner import Asking, answer_all

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint

CONTROLS = ("random", "uniform", "frame_sample")
SAMPLES = 240
# Costs are matched, and thresholds calibrated, on clips of a seed that no evaluation uses.
PROBES, PROBE_SEED = 4, 2**16 - 1


def evaluate(
    checkpoint: Checkpoint,
    method: Method,
    costs: Sequence[float] | None = (0.3,),
    *,
    controls: Sequence[Method] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
    kinds: Sequence[str] | None = None,
    calibrated: bool = False,
    asking: Asking | None = None,
    records: Records | Path | None = None,
    yardstick: Yardstick | None = None,
    watch: Watcher | None = None,
) -> Evaluation:
    """Answer the same questions dense, with `method` and with controls, and compare.

    Args:
        checkpoint: the model that is asked, from `load_checkpoint`.
        method: the method under test.
        costs: equivalent costs in (0, 1]; at each one, every method gets the budget that measures it. None takes the
            method as it is configured and matches the controls to what it costs.
        controls: None means random tokens, a uniform stride and fewer frames.
        samples: how many questions.
        seed: which questions.
        part: (k, n) asks the k-th of n parts of these questions, for n processes that share a file of answers.
        kinds: of which kinds the questions are, None for all.
        calibrated: compute the similarity threshold of methods that leave it open, on clips that are not asked about.
        asking: batch, length of answers, whether the choices are written behind the question (by default for every
            model but the embedded one).
        records: the file of answers to go on from and to add to, by default one in the user's cache folder;
            `Records(None)` keeps them in memory.
        yardstick: where questions come from, by default `framefusion.evaluation.synthetic_questions`.
        watch: called with (what is being done, steps done, steps in all).

    Returns:
        Accuracies with their intervals, costs and paired comparisons.

    Raises:
        OptionError: costs, kinds or numbers out of range.
        RecordsError: a file that cannot be used.

    Example:
        >>> from framefusion.evaluation import Records
        >>> asked = {"samples": 8, "kinds": ["colour"], "records": Records(None)}
        >>> found = ff.evaluate(checkpoint, ff.FrameFusion(), controls=[], **asked)
        >>> found.dense.accuracy.value > 0.5
        True
    """
    ground = yardstick or default_yardstick()
    rivals = (*checked_methods([method], "an evaluation"), *chosen_controls(controls))
    costs = checked("costs", tuple[Share, ...] | None, costs, "0.3 reads 30 % of the tokens")
    asked = Chosen(ground, chosen_kinds(kinds, ground), samples, seed, part)
    calibrated = checked("calibrated", bool, calibrated)
    asking = checked("asking", Asking | None, asking) or Asking()
    return _evaluation(checkpoint, rivals, costs, asked, calibrated, asking, records, watch or nobody)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The questions of an evaluation. Raises OptionError."""

    ground: Yardstick
    kinds: tuple[str, ...]
    samples: int
    seed: int
    part: tuple[int, int]

    def __post_init__(self) -> None:
        check_samples(self.samples, self.seed, self.kinds, self.ground, self.part)

    def setup(self) -> Mapping[str, Any]:
        """What is different about answers to these questions, if the yardstick says so."""
        return getattr(self.ground, "setup", {})

    def mine(self) -> range:
        """Numbers of the questions of this part."""
        number, parts = self.part
        return range((number - 1) * self.samples // parts, number * self.samples // parts)

    def questions(self) -> Iterator[Question]:
        mine = self.mine()
        return islice(self.ground.samples(self.samples, self.seed, self.kinds), mine.start, mine.stop)

    def probes(self, context: ComparisonContext) -> list[dict[str, Any]]:
        """Prompts that are not asked about, to match costs on."""
        clips = self.ground.samples(PROBES, PROBE_SEED, self.kinds)
        return [context.asking.prompt(context.checkpoint, one) for one in clips]


def _evaluation(
    checkpoint: Checkpoint,
    methods: Sequence[Method],
    costs: Sequence[float] | None,
    chosen: Chosen,
    calibrated: bool,
    asking: Asking,
    records: Records | Path | None,
    watch: Watcher,
) -> Evaluation:
    """methods: the method, then its controls."""
    context = ComparisonContext(checkpoint, asking, fingerprint.of_checkpoint(checkpoint), watch, chosen.setup())
    store = store_of(records, context)
    probes = chosen.probes(context)
    if costs is not None and not takes_shares(methods[0]):
        context.notes.append(f"{name_of(methods[0])} costs what it was trained for, and the others are matched to that")
        costs = None
    if calibrated:
        methods = context.calibrated(list(methods), probes)
    return answered(context, _contenders(context, methods[0], methods[1:], costs, probes), chosen, store)


def answered(context: ComparisonContext, contenders: Sequence[Contender], chosen: Chosen, store: Records) -> Evaluation:
    """Ask what is not answered yet, and compare."""
    checkpoint, dense = context.checkpoint, context.arm(None)
    arms = list({arm.cell.key: arm for arm in (dense, *(one.arm for one in contenders))}.values())
    asked = Asked(chosen.questions())
    answer_all(checkpoint, arms, asked, store, context.asking, Count(context.watch, len(chosen.mine()) * len(arms)))
    return evaluation_of(
        checkpoint,
        dense.cell,
        contenders,
        {arm.cell.key: [store.get(arm.cell, name) for name in asked.names] for arm in arms},
        {kind: chosen.ground.chance(kind) for kind in chosen.kinds},
        seed=chosen.seed,
        notes=[*context.notes, *store.notes],
        records=store.path,
    )


def nobody(what: str, done: int, steps: int) -> None:
    """Watches nothing."""


def store_of(records: Records | Path | None, context: ComparisonContext) -> Records:
    """The answers to go on from."""
    if isinstance(records, Records):
        return records
    return Records(records or default_path(context.checkpoint.name, context.weights))


def chosen_controls(controls: Sequence[Method] | None) -> tuple[Method, ...]:
    """`controls`, or those an evaluation has by itself. Raises OptionError."""
    if controls is None:
        controls = [method_named(name)() for name in CONTROLS]
    return checked_methods(controls, "a list of controls")


def _contenders(
    context: ComparisonContext,
    method: Method,
    controls: Sequence[Method],
    costs: Sequence[float] | None,
    probes: Sequence[Any],
) -> list[Contender]:
    """The method at every cost, then the controls at every cost."""
    context.notes += method.notes(context.checkpoint.family)
    checkpoint, steps, done = context.checkpoint, (1 + len(controls)) * len(costs or (1,)), 0
    parts: list[tuple[Role, Method]] = [("method", method), *(("control", control) for control in controls)]
    found, targets = [], list(costs or [cost_of(checkpoint.model, method, probes, checkpoint.processor)])
    labels = labels_of([one for _, one in parts])
    for (role, one), label in zip(parts, labels, strict=True):
        for target in targets:
            context.watch("matching costs", done, steps)
            as_it_is = costs is None and role == "method"
            matched = one if as_it_is else context.matched(one, target, probes)
            found.append(Contender(label, context.arm(matched), role, None if costs is None else target))
            done += 1
    return found


def labels_of(methods: Sequence[Method]) -> list[str]:
    """The methods' names; those that share one also name the options in which they differ from the defaults."""
    names = [name_of(method) for method in methods]
    return [
        name if names.count(name) == 1 else ":".join([name, *_changed(method)])
        for name, method in zip(names, methods, strict=True)
    ]


def _changed(method: Method) -> list[str]:
    own = options.options_of(type(method))
    parts = [part for part in dataclasses.fields(method) if part.name in own]  # type: ignore[arg-type]
    values = ((part.name, getattr(method, part.name), part.default) for part in parts)
    return [f"{name}={value}" for name, value, default in values if value != default]


class Asked:
    """Iterates over questions and remembers which they were."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._questions = questions
        self.names: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[Question]:
        for question in self._questions:
            self.names.append((question.seed, question.kind))
            yield question


class Count:
    """Tells the watcher how many answers there are."""

    def __init__(self, watch: Watcher, total: int) -> None:
        self.watch, self.total, self.done = watch, total, 0

    def __call__(self, count: int) -> None:
        self.done += count
        self.watch("answering", self.done, self.total)


def default_yardstick() -> Yardstick:
    """The one that comes with the package."""
    return import_module("framefusion.evaluation.synthetic_questions")


def chosen_kinds(kinds: Sequence[str] | None, ground: Yardstick) -> tuple[str, ...]:
    """The kinds of questions, all of them for None. Raises OptionError."""
    chosen = ground.KINDS if kinds is None else checked("kinds", tuple[str, ...], kinds)
    unknown = [kind for kind in chosen if kind not in ground.KINDS]
    if unknown:
        raise OptionError(f"unknown kind of question `{unknown[0]}`", hint=f"choose among {', '.join(ground.KINDS)}")
    return tuple(chosen)


def check_samples(
    samples: int, seed: int, kinds: Sequence[str], ground: Yardstick, part: tuple[int, int] = (1, 1)
) -> None:
    checked("samples", options.Count, samples)
    checked("seed", Seed, seed)
    if samples < len(kinds):
        raise OptionError(
            f"{samples} samples cannot be drawn",
            f"there are {len(kinds)} kinds of questions",
            f"ask for at least {len(kinds)} samples",
        )
    if seed == PROBE_SEED:
        raise OptionError(
            f"the clips of seed {seed} are those on which costs are matched and thresholds calibrated",
            hint="choose any other seed",
        )
    numbers = checked("part", tuple[options.Count, ...], part)
    if len(numbers) != 2 or not numbers[0] <= numbers[1] <= samples // len(kinds):
        raise OptionError(
            f"there is no part {'/'.join(map(str, numbers))} of {samples} samples",
            hint="2/4 is the second of four parts; each part has a sample of every kind",
        )
