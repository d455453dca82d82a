"""`framefusion demo`: dense against reduced on the embedded model and the example clip, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from framefusion.cli.console import JSON_OPTION, note, out, print_json, quiet_libraries, working_on
from framefusion.core.text import cell

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.synthetic_questions import Question
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip


def demo(
    cost: Annotated[float, typer.Option("--cost", "--keep", help="FrameFusion's budget, a fraction in (0, 1].")] = 0.3,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Ask the embedded model a dozen questions about a short clip, dense and reduced. Needs no network."""
    from framefusion.cli.opening import open_checkpoint
    from framefusion.cli.options import build_method
    from framefusion.inference.tiny import NAME as TINY

    method = build_method("framefusion", cost, [])
    quiet_libraries()
    from framefusion.cli.compare import ratios, run_both, show
    from framefusion.cli.demo_clip.clip import demo_clip, demo_questions
    from framefusion.inference.answer.answer import shows_times
    from framefusion.inference.answer.prompt import build_prompt

    checkpoint, clip, asked = open_checkpoint(TINY, "auto", None), demo_clip(), demo_questions()
    weights = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    note(f"{method.facts.title}, {len(clip.frames)} frames, a model of {weights:,} weights")
    method, timed = method.for_family(checkpoint.family), shows_times(checkpoint)
    dense, reduced = run_both(checkpoint, build_prompt(checkpoint, clip, asked[0].text), method, NEW_TOKENS)
    answers = _ask_all(checkpoint, clip, asked, method)
    if json:
        counts = {"dense": dense.to_dict(), "reduced": reduced.to_dict(), "ratios": ratios(dense, reduced, timed)}
        print_json({"model": checkpoint.name, "cost": cost, "questions": answers} | counts)
        return
    _show_answers(answers)
    show(dense, reduced, timed, question=asked[0].text)
    note("how much accuracy a budget costs: framefusion evaluate; what became of each patch: framefusion view")


# The longest answer names three colours and ends its turn.
NEW_TOKENS = 4


def _ask_all(checkpoint: Checkpoint, clip: Clip, asked: list[Question], method: Method) -> list[dict[str, Any]]:
    from framefusion.inference.answer.answer import ask
    from framefusion.inference.answer.prompt import build_prompt

    rows = []
    with working_on("asking"):
        for question in asked:
            inputs = build_prompt(checkpoint, clip, question.text)
            texts = [ask(checkpoint, inputs, chosen, NEW_TOKENS).text for chosen in (None, method)]
            rows.append({"question": question.text, "truth": question.answer, "dense": texts[0], "reduced": texts[1]})
    return rows


def _show_answers(answers: list[dict[str, Any]]) -> None:
    table = Table("question", "true answer", "dense", "reduced")
    for row in answers:
        marks = (("✓ ", "green") if row[name] == row["truth"] else ("✗ ", "red") for name in ("dense", "reduced"))
        marked = [Text.assemble(mark, cell(row[name])) for mark, name in zip(marks, ("dense", "reduced"), strict=True)]
        table.add_row(row["question"], row["truth"], *marked)
    out.print(table)
