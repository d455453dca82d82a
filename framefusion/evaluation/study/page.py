"""The study's page: its tables, written between two marks of a Markdown file, the words around them left alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from framefusion.core.destination import check_file, put
from framefusion.core.errors import OptionError
from framefusion.core.text import as_code, for_markdown, one_line
from framefusion.evaluation.study.frontier import Plane, frontier, planes
from framefusion.evaluation.study.labels import about, column_of, methods_of, title_of
from framefusion.evaluation.study.recommend import MARGIN, Step, memory, refused, steps
from framefusion.evaluation.study.rows import Row
from framefusion.evaluation.study.run import Study
from framefusion.inference.report import bytes_for_people

BEGIN, END = "<!-- rows: written by the command -->", "<!-- end of rows -->"
# Caches that lie beside the weights at once: a single chat, and a server's batch.
PROMPTS = (1, 64)
TURN_ON = {
    "tokens": "fewer tokens",
    "weights": "fewer bits for weights",
    "activations": "fewer bits for activations",
    "kv": "fewer bits for the cache",
    "attention": "attention in 8 bits",
}


def write_page(found: Study, command: str, path: Path, figures: Sequence[Path] = ()) -> None:
    """Replace what stands between the marks. Raises OptionError where there is no file with both."""
    head, tail = check_page(path)
    put(path, f"{head}{BEGIN}\n\n{tables(found, command, figures, path.parent)}\n{END}{tail}".encode())


def check_page(path: Path) -> tuple[str, str]:
    """What stands before and behind the place for the rows. Raises OptionError where the page cannot be written."""
    check_file(path, "--page")
    try:
        text = path.read_bytes().decode() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read {path}", str(error), "give --page a text in UTF-8") from error
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise OptionError(f"{path} has no place for the rows", hint=f"put the lines {BEGIN} and {END} into it")
    return head, tail


def tables(found: Study, command: str, figures: Sequence[Path] = (), home: Path = Path()) -> str:
    """Everything the rows say, in Markdown."""
    parts = [_head(found, command)]
    parts += [advice(found.rows, prompts) for prompts in PROMPTS]
    parts += [_frontier(found.rows, plane) for plane in planes(found.rows)]
    parts += [f"![{for_markdown(figure.stem)}]({_relative(figure, home)})\n" for figure in figures]
    parts += [_method(found.rows, method) for method in methods_of(found.rows)]
    return "\n".join(parts)


def _head(found: Study, command: str) -> str:
    first = found.rows[0]
    lines = [
        f"Made by {as_code(command)}: {for_markdown(found.model)}, {', '.join(about(found))}. "
        f"The dense model at the widest precision "
        f"({as_code(first.id)}) answers {_accuracy(first)} right. An asterisk marks a width that is simulated.",
        "",
        *(f"- {one_line(note).replace('<', '&lt;')}" for note in found.notes),
    ]
    return "\n".join(lines) + "\n"


def advice(rows: Sequence[Row], prompts: int) -> str:
    """The order in which to turn things on, each step with the row it rests on."""
    found = steps(rows, prompts)
    whole = memory(rows[0], prompts)
    many = "one prompt" if prompts == 1 else f"{prompts} prompts at once"
    lines = [f"### What to turn on, for {many}", ""]
    for number, step in enumerate(found, 1):
        lines.append(f"{number}. {_step(step)}; {memory(step.after, prompts) / whole:.1%} of the memory is left.")
    if not found:
        lines.append(f"Nothing: each single change may lose more than {100 * MARGIN:.0f} points.")
    lines.append("")
    lines += [f"- Not now: {_step(step)}." for step in refused(rows, found, prompts)]
    return "\n".join(lines) + "\n"


def _step(step: Step) -> str:
    row, difference = step.after, step.after.against.difference
    return (
        f"{TURN_ON[step.part]}: {as_code(row.id)} saves {bytes_for_people(round(step.saved))}, "
        f"accuracy {_accuracy(row)}, "
        f"{_points(difference.value)} points [{_points(difference.low)}, {_points(difference.high)}] against dense"
    )


def _frontier(rows: Sequence[Row], plane: Plane) -> str:
    best = frontier(rows, plane)
    title = f"### The best that fits: {for_markdown(title_of(*plane))}\n"
    body = _table(
        ("cache allowed, of dense", "chosen row", "tokens read", "bits", "accuracy", "on the other half"),
        (
            (
                f"{one.share:.3g} ({bytes_for_people(round(one.limit))})",
                as_code(one.chosen.id),
                f"{one.chosen.cost:.0%}",
                column_of(one.chosen.kv),
                _accuracy(one.chosen),
                f"{one.unseen:.1%}",
            )
            for one in best
        ),
    )
    return f"{title}\n{body}"


def _method(rows: Sequence[Row], method: str) -> str:
    shown = [row for row in rows if row.method == method or row.budget == 1.0]
    tasks = list(shown[0].tasks)
    timed = any(row.prefill_ms is not None for row in shown)
    sure = any(row.calibration_error is not None for row in shown)
    heads = (
        "row",
        "accuracy",
        "against dense",
        *map(for_markdown, tasks),
        *["calibration error"] * sure,
        "weights",
        "cache",
        "read",
    )
    body = _table(
        heads + (("prefill", "answer") if timed else ()),
        (
            (
                as_code(row.id),
                _accuracy(row),
                f"{_points(row.against.difference.value)} [{_points(row.against.difference.low)}, "
                f"{_points(row.against.difference.high)}]",
                *(f"{row.tasks[task].value:.0%}" for task in tasks),
                *(["" if row.calibration_error is None else f"{row.calibration_error:.3f}"] if sure else []),
                bytes_for_people(round(row.weight_bytes)),
                bytes_for_people(round(row.kv_bytes)),
                f"{row.cost:.0%}",
                *([_milliseconds(row.prefill_ms), _milliseconds(row.ms)] if timed else []),
            )
            for row in shown
        ),
    )
    return f"### {for_markdown(method)}\n\n{body}"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [list(heads), ["---"] * len(heads), *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _milliseconds(time: float | None) -> str:
    return "" if time is None else f"{time:.0f} ms"


def _accuracy(row: Row) -> str:
    return f"{row.accuracy.value:.1%} [{100 * row.accuracy.low:.0f}, {100 * row.accuracy.high:.0f}]"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _relative(path: Path, home: Path) -> str:
    path, home = path.absolute(), home.absolute()
    return quote(path.relative_to(home).as_posix() if path.is_relative_to(home) else path.name)
