"""What streams kept and remembered: tables, and accuracy against age."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Row
from benchmarks.stream.asked import answers_of, points
from framefusion.core.text import for_plot
from framefusion.evaluation.figure import COLOURS, INK, MARKERS, QUIET, new_figure, plain, save
from framefusion.evaluation.long_streams import AGES, CONTROLS, by_age

if TYPE_CHECKING:
    from framefusion.evaluation.long_streams.accuracy import Group
    from framefusion.evaluation.long_streams.measure import Answered

KINDS = ("stream", "questions")
"""Kinds of cells that are shown here and nowhere else."""
SHORTEST_AGE = 1.0
"""Seconds, for a logarithmic axis; what has just ended is no second old."""


def stream_tables(rows: Iterable[Row]) -> str:
    """Memory and time by policy, and accuracy by policy and age; nothing where there are no such rows."""
    own = [row for row in rows if row["kind"] in KINDS]
    watched = [row for row in own if row["part"] in ("memory", "latency", "work")]
    asked = [row for row in own if row["part"] == "accuracy"]
    return "\n\n".join(part for part in (_watched(watched), _asked(asked)) if part)


def _watched(rows: list[Row]) -> str:
    if not rows:
        return ""
    head = ["policy", "part", "after", "cache MiB", "process MiB", "ms"]
    lines = [
        [row["policy"], row["part"], _length(row), *(_number(row.get(name)) for name in FIGURES)]
        for row in sorted(rows, key=lambda row: (row["policy"], row["part"], row.get("windows", 0), row["frames"]))
    ]
    first = rows[0]
    said = f"{first['memory']} tokens per layer, windows of {first['window']} frames; {first['device']}"
    latency = "Latency is the median of the windows behind those, of a young and an old stream fed by turns"
    note = f"{latency}, work the processor time of all frames."
    return f"### Streams\n\n{said}.\n\n{_markdown(head, lines, 3)}\n\n{note}"


FIGURES = ("cache_mib", "peak_mib", "median_ms")


def _asked(rows: list[Row]) -> str:
    answers = answers_of(rows)
    if not answers:
        return ""
    groups, ages = by_age(answers), list(AGES)
    known = {(group.arm, group.age): group for group in groups}
    arms = sorted({group.arm for group in groups}, key=lambda arm: (arm in CONTROLS, arm))
    titles = {arm: f"control: {arm}" if arm in CONTROLS else arm for arm in arms}
    kinds = sorted({answer.question.kind for answer in answers})
    first, streams = rows[0], len({row["seed"] for row in rows})
    share = [[titles[arm], *(_accuracy(known.get((arm, age))) for age in ages)] for arm in arms]
    ahead = [
        [titles[arm], control, *(_ahead(known.get((arm, age)), control) for age in ages)]
        for arm in arms
        for control in CONTROLS
        if arm not in CONTROLS
    ]
    by_kind = [[titles[arm], *(_of_kind(answers, arm, kind) for kind in kinds)] for arm in arms]
    said = f"{streams} streams of {first['frames']} frames, {first['memory']} tokens per layer; {first['device']}"
    return "\n\n".join(
        [
            f"### Accuracy by age\n\n{said}.",
            _markdown(["remembered by", *ages], share, 1),
            "Share of right answers, 95 % interval, number of questions.",
            _markdown(["policy", "ahead of", *ages], ahead, 2),
            "Difference in points on the questions that both were asked, with its paired 95 % interval.",
            _markdown(["remembered by", *kinds], by_kind, 1),
            "Right answers by what was asked, at all ages.",
        ]
    )


def draw_ages(rows: list[Row], path: Path) -> Path | None:
    """Accuracy against age in seconds, a line per policy, controls dashed. Draws nothing, and returns None, without."""
    groups = by_age(answers_of(row for row in rows if row["part"] == "accuracy" and row["kind"] in KINDS))
    if not groups:
        return None
    figure = new_figure(8.0, 4.2)
    axes = figure.subplots()
    arms = sorted({(group.arm in CONTROLS, group.arm) for group in groups})
    for number, (control, arm) in enumerate(arms):
        own = sorted((group for group in groups if group.arm == arm), key=lambda group: group.seconds)
        found = [group.accuracy for group in own]
        # Side by side where several are asked at the same age.
        shift = 1.04 ** (number - len(arms) / 2)
        axes.errorbar(
            [max(SHORTEST_AGE, group.seconds) * shift for group in own],
            [one.value for one in found],
            yerr=[[one.value - one.low for one in found], [one.high - one.value for one in found]],
            color=QUIET if control else COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle="--" if control else "-",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            label=for_plot(f"control: {arm}" if control else arm),
        )
    axes.set(xscale="log", xlabel="age of what is asked, seconds", ylabel="accuracy", ylim=(0, 1.02))
    plain(axes, "both")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)
    return path


def _length(row: Row) -> str:
    return f"{row['windows']:,} windows" if "windows" in row else f"{row['frames']:,} frames"


def _accuracy(group: Group | None) -> str:
    if group is None:
        return ""
    share = group.accuracy
    return f"{100 * share.value:.1f} % ({100 * share.low:.0f} to {100 * share.high:.0f}), {group.count}"


def _ahead(group: Group | None, control: str) -> str:
    if group is None or control not in group.ahead:
        return ""
    value, low, high = points(group.ahead[control].difference)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _of_kind(answers: list[Answered], arm: str, kind: str) -> str:
    own = [answer.correct for answer in answers if (answer.arm, answer.question.kind) == (arm, kind)]
    return f"{sum(own)} of {len(own)}" if own else ""


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _markdown(head: list[str], lines: list[list[str]], texts: int) -> str:
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
