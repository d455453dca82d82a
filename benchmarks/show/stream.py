"""What streams kept and remembered: tables, and accuracy against age."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from framefusion.core.text import for_plot
from framefusion.evaluation.figure import COLOURS, INK, MARKERS, QUIET, new_figure, plain, save

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
    note = "Latency is the median of windows around that one, work the processor time of all frames."
    return f"### Streams\n\n{said}.\n\n{_markdown(head, lines, 3)}\n\n{note}"


FIGURES = ("cache_mib", "peak_mib", "median_ms")


def _asked(rows: list[Row]) -> str:
    if not rows:
        return ""
    ages = {row["age"]: None for row in sorted(rows, key=lambda row: row["age_s"])}
    arms = {row["policy"]: row["control"] for row in rows}
    known = {(row["policy"], row["age"]): row for row in rows}
    head = ["remembered by", *ages]
    lines = [
        [f"control: {arm}" if control else arm, *(_accuracy(known.get((arm, age))) for age in ages)]
        for arm, control in sorted(arms.items(), key=lambda item: item[1])
    ]
    first = rows[0]
    said = f"{first['rows']} streams of {first['frames']} frames, {first['memory']} tokens per layer"
    note = "Share of right answers, 95 % interval, number of questions."
    return f"### Accuracy by age\n\n{said}.\n\n{_markdown(head, lines, 1)}\n\n{note}"


def draw_ages(rows: list[Row], path: Path) -> Path | None:
    """Accuracy against age in seconds, a line per policy, controls dashed. Draws nothing, and returns None, without."""
    asked = [row for row in rows if row["part"] == "accuracy" and row["kind"] in KINDS]
    if not asked:
        return None
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    arms = sorted({(row["control"], row["policy"]) for row in asked})
    for number, (control, arm) in enumerate(arms):
        own = sorted((row for row in asked if row["policy"] == arm), key=lambda row: row["age_s"])
        colour = QUIET if control else COLOURS[number % len(COLOURS)]
        axes.errorbar(
            [max(SHORTEST_AGE, row["age_s"]) for row in own],
            [row["accuracy"] for row in own],
            yerr=[_reach(own, "accuracy_low", -1), _reach(own, "accuracy_high", 1)],
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            linestyle="--" if control else "-",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            label=for_plot(f"control: {arm}" if control else arm),
        )
    axes.set(xscale="log", xlabel="age of what is asked, seconds", ylabel="accuracy", ylim=(0, 1.02))
    plain(axes, "both")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    save(figure, path)
    return path


def _reach(rows: list[Row], name: str, sign: int) -> list[float]:
    return [max(0.0, sign * (row[name] - row["accuracy"])) for row in rows]


def _length(row: Row) -> str:
    return f"{row['windows']:,} windows" if "windows" in row else f"{row['frames']:,} frames"


def _accuracy(row: Row | None) -> str:
    if row is None:
        return ""
    ends = f"{100 * row['accuracy_low']:.0f} to {100 * row['accuracy_high']:.0f}"
    return f"{100 * row['accuracy']:.1f} % ({ends}), {row['questions']}"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _markdown(head: list[str], lines: list[list[str]], texts: int) -> str:
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
