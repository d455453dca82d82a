"""How the built model answers the test, beside what guessing gives, and the curves of its training."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framefusion.core.installed import versions_of
from framefusion.evaluation import fingerprint
from framefusion.evaluation.context import ComparisonContext
from framefusion.evaluation.listed_questions import ListedQuestion, ListedQuestions
from framefusion.evaluation.records import Record, Records
from framefusion.evaluation.runner import Asking, answer_all
from framefusion.inference.answer.checkpoint import Checkpoint
from training.pretrained.scene import FRAMES

# A model that is not this many times above guessing is no yardstick.
WANTED = 3.0
NEW_TOKENS = 8

Watcher = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Row:
    """One kind: accuracies by guessing, by the most frequent answer, with another question's clip, and as asked."""

    kind: str
    asked: int
    chance: float
    frequent: float
    swapped: float
    right: float


def score(checkpoint: Checkpoint, folder: Path, answers: Path, watch: Watcher) -> list[Row]:
    """Asks every question of the test in `folder`, twice: with its own clip, and with that of another one.

    answers: the file they are kept in; a stopped run goes on from it.
    """
    ground = ListedQuestions(folder, FRAMES)
    asked = [one for kind in ground.KINDS for one in ground.to_ask(kind)]
    others = [replace(one, path=other.path) for one, other in zip(asked, _others(asked), strict=True)]
    store = Records(answers)
    own = _answers(checkpoint, asked, store, ground.setup, "test", watch)
    swapped = _answers(checkpoint, others, store, {**ground.setup, "clips": "of other questions"}, "blind test", watch)
    return [
        Row(
            kind,
            len(own[kind]),
            ground.chance(kind),
            Counter(record.expected for record in own[kind]).most_common(1)[0][1] / len(own[kind]),
            _mean(swapped[kind]),
            _mean(own[kind]),
        )
        for kind in ground.KINDS
    ]


def _others(asked: Sequence[ListedQuestion]) -> list[ListedQuestion]:
    """For each question another one of its kind, with another answer where there is one."""
    by_kind: dict[str, list[ListedQuestion]] = defaultdict(list)
    for one in asked:
        by_kind[one.kind].append(one)
    found = []
    for one in asked:
        pool = by_kind[one.kind]
        at = pool.index(one)
        turned = [*pool[at + 1 :], *pool[:at]]
        found.append(next((other for other in turned if other.answer != one.answer), (turned or pool)[0]))
    return found


def _answers(
    checkpoint: Checkpoint,
    asked: Sequence[ListedQuestion],
    store: Records,
    setup: Any,
    what: str,
    watch: Watcher,
) -> dict[str, list[Record]]:
    asking = Asking(1, NEW_TOKENS, False)
    context = ComparisonContext(checkpoint, asking, fingerprint.of_checkpoint(checkpoint), watch, setup)
    arm, done = context.arm(None), [0]

    def advance(count: int) -> None:
        done[0] += count
        watch(what, done[0], len(asked))

    answer_all(checkpoint, [arm], asked, store, asking, advance)
    found: dict[str, list[Record]] = defaultdict(list)
    for one in asked:
        found[one.kind].append(store.get(arm.cell, (one.seed, one.kind)))
    return found


def _mean(records: Sequence[Record]) -> float:
    return sum(record.correct for record in records) / len(records)


def card(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """The text of the card: what was built how, how it scores, and whether that is enough."""
    means = [sum(getattr(row, name) for row in rows) / len(rows) for name in ("chance", "frequent", "swapped", "right")]
    times = means[-1] / means[0]
    lines = ["# A yardstick with pretrained halves", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| kind | questions | guessing | most frequent answer | with another clip | right |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row.kind} | {row.asked} | {row.chance:.1%} | {row.frequent:.1%} | {row.swapped:.1%} | {row.right:.1%} |"
        for row in rows
    ]
    total = sum(row.asked for row in rows)
    lines += [f"| **mean** | {total} | " + " | ".join(f"{mean:.1%}" for mean in means) + " |", ""]
    verdict = "reached" if times >= WANTED else "not reached: it is no yardstick, and nothing is compared on it"
    lines += [f"{times:.1f} times chance; {WANTED:g} times are wanted: {verdict}.", ""]
    return "\n".join(lines)


def draw_curves(work: Path, stages: Sequence[str], file: Path) -> bool:
    """Loss, and right answers to questions kept aside, over the steps of the stages. False without matplotlib."""
    if not versions_of("matplotlib"):
        return False
    from framefusion.evaluation.figure import COLOURS, MARKERS, new_figure, plain, save

    figure = new_figure(9, 6)
    grid = figure.subplots(2, len(stages), squeeze=False)
    for column, stage in enumerate(stages):
        found = json.loads((work / f"stage-{stage}" / "curve.json").read_text())
        top, bottom = grid[:, column]
        top.plot(*zip(*found["losses"], strict=True), color=COLOURS[0], linewidth=1)
        kinds = sorted({kind for right in found["right"].values() for kind in right})
        for number, kind in enumerate(kinds):
            points = [(int(step), right[kind][0] / right[kind][1]) for step, right in found["right"].items()]
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number // len(COLOURS)], "markersize": 3}
            bottom.plot(*zip(*points, strict=True), label=kind, linewidth=1, **look)
        top.set(title=stage, ylabel="loss")
        bottom.set(xlabel="step", ylabel="right, kept aside", ylim=(0, 1))
        bottom.legend(fontsize=6, ncols=2)
        plain(top)
        plain(bottom)
    save(figure, file)
    return True
