"""Put every question to every arm, several at a time, and keep each answer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from framefusion.core.options import Count, settle
from framefusion.evaluation.answers import Question, first_named, with_choices
from framefusion.evaluation.cells import Cell
from framefusion.evaluation.precision_switch import PrecisionSwitch
from framefusion.evaluation.records import Record, Records
from framefusion.inference.answer.batch import Prompts, ask_rows, shape_of
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.tiny import is_embedded

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.quantization.precision import Precision

# Prompts that wait for others of their shape, in batches; bounds the memory their pixels take.
WAITING = 8
ANSWER_TOKENS = 12

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Arm:
    """One way to answer, and the cell its answers belong to.

    method: None for the model as it is. precision: how it is quantised for this arm, None for as it was loaded.
    """

    cell: Cell
    method: Method | None = None
    precision: Precision | None = None


@dataclass(frozen=True)
class Asking:
    """How questions are put.

    batch: questions answered together. new_tokens: longest answer. name_choices: write the possible answers behind the
    question; None does so for every model but the embedded one, which was trained on the question alone. share_tower:
    run the vision tower once for all arms that leave it as it is; their times are then without it.
    """

    batch: Count = 1
    new_tokens: Count = ANSWER_TOKENS
    name_choices: bool | None = None
    share_tower: bool = False

    def __post_init__(self) -> None:
        settle(self)

    def names_choices(self, checkpoint: Checkpoint) -> bool:
        """Whether this model is shown the possible answers."""
        return not is_embedded(checkpoint.name) if self.name_choices is None else self.name_choices

    def prompt(self, checkpoint: Checkpoint, question: Question) -> dict[str, Any]:
        named = self.names_choices(checkpoint)
        text = with_choices(question.question, question.choices) if named else question.question
        return build_prompt(checkpoint, question.clip(), text)


@dataclass(frozen=True)
class _Open:
    """A question that some arms have not answered yet. arms: their numbers."""

    question: Question
    prompt: dict[str, Any]
    arms: frozenset[int]


def answer_all(
    checkpoint: Checkpoint,
    arms: Sequence[Arm],
    questions: Iterable[Question],
    records: Records,
    asking: Asking,
    progress: Progress | None = None,
) -> None:
    """Fill `records` with the answers of all arms to all questions; those that are there already are not asked again.

    Questions are put in passes, each over all of them: one per precision that a library converts the model to.
    progress: called with the number of answers each step added or found.
    """
    advance, asked = progress or (lambda count: None), list(questions)
    for some in _passes(arms, asking.share_tower):
        with PrecisionSwitch(checkpoint, asking.share_tower) as switch:
            for group in _groups(checkpoint, some, asked, records, asking, advance):
                _answer(switch, some, group, records, asking, advance)
                switch.forget_pictures()


def _passes(arms: Sequence[Arm], share_tower: bool) -> list[list[Arm]]:
    """Arms that go through the questions together.

    A library takes minutes to convert a large model, so each of its precisions has a pass of its own and is made once.
    Rounding is quick: arms that share the tower's outputs stay together, changing the model for every batch.
    """
    passes: dict[Precision | None, list[Arm]] = {}
    for arm in arms:
        done = None if arm.precision is None or arm.precision.without_cache.full else arm.precision.without_cache
        quick = done is None or done.weights.full or done.weights.simulated
        passes.setdefault(None if share_tower and quick else done, []).append(arm)
    return list(passes.values())


def _groups(
    checkpoint: Checkpoint,
    arms: Sequence[Arm],
    questions: Sequence[Question],
    records: Records,
    asking: Asking,
    advance: Progress,
) -> Iterator[list[_Open]]:
    """Batches of questions of one shape, each with the arms that lack it."""
    waiting: dict[Any, list[_Open]] = {}
    for question in questions:
        open_arms = frozenset(number for number, arm in enumerate(arms) if not records.has(arm.cell, question))
        advance(len(arms) - len(open_arms))
        if not open_arms:
            continue
        prompt = asking.prompt(checkpoint, question)
        group = waiting.setdefault(shape_of(prompt), [])
        group.append(_Open(question, prompt, open_arms))
        if len(group) == asking.batch:
            yield waiting.pop(shape_of(prompt))
        elif sum(map(len, waiting.values())) >= WAITING * asking.batch:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def _answer(
    switch: PrecisionSwitch,
    arms: Sequence[Arm],
    group: Sequence[_Open],
    records: Records,
    asking: Asking,
    advance: Progress,
) -> None:
    """All arms in their order; those that quantise the model alike should follow each other."""
    stacks: dict[tuple[int, ...], Prompts] = {}
    for number, arm in enumerate(arms):
        places = tuple(place for place, row in enumerate(group) if number in row.arms)
        if not places:
            continue
        rows = [group[place] for place in places]
        prompts = stacks.setdefault(places, Prompts(row.prompt for row in rows))
        answers = ask_rows(switch.to(arm.precision), prompts, arm.method, asking.new_tokens)
        records.add(
            _record(arm.cell, row.question, asdict(answer), len(rows))
            for row, answer in zip(rows, answers, strict=True)
        )
        advance(len(rows))


def _record(cell: Cell, question: Question, numbers: dict[str, Any], rows: int) -> Record:
    named = first_named(numbers["text"], question.choices)
    return Record(
        cell=cell,
        seed=question.seed,
        kind=question.kind,
        expected=question.answer,
        answer=named,
        correct=named == question.answer,
        rows=rows,
        **numbers,
    )
