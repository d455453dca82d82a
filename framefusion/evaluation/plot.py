"""Accuracy against equivalent cost: one line per method with its interval, and the same for each kind of question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.figure import COLOURS, FAINT, INK, MARKERS, QUIET, new_figure, plain, save

if TYPE_CHECKING:
    from framefusion.evaluation.paired import Interval
    from framefusion.evaluation.result import Evaluation

COLUMNS = 4
WIDTH, MAIN_HEIGHT, ROW_HEIGHT, HEAD = 9.0, 4.0, 1.75, 0.4

Line = list[tuple[float, "Interval"]]


def draw(found: Evaluation, path: Path) -> None:
    """Write the figure to `path`; its ending names the format. Raises OptionError where that fails."""
    rows = -(-len(found.kinds) // COLUMNS)
    figure = new_figure(WIDTH, HEAD + MAIN_HEIGHT + ROW_HEIGHT * rows)
    top, below = figure.subfigures(2, 1, height_ratios=[MAIN_HEIGHT, ROW_HEIGHT * rows], hspace=0.04)
    _main(top.subplots(), found)
    _kinds(below.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False), found)
    below.supxlabel("equivalent cost: share of the visual tokens a layer reads, on average", fontsize=9, color=INK)
    figure.suptitle(
        f"{found.model}: {found.samples} questions on unseen clips, 95 % intervals", fontsize=11, color=INK, x=0.5
    )
    save(figure, path)


def lines_of(found: Evaluation, kind: str | None = None) -> dict[str, Line]:
    """For every method (cost, accuracy) from the smallest cost up; the dense model is no line of its own."""
    lines: dict[str, Line] = {}
    for entry in found.entries:
        accuracy = entry.score.accuracy if kind is None else entry.score.by_kind[kind]
        lines.setdefault(entry.label, []).append((entry.score.cost, accuracy))
    return {label: sorted(line, key=lambda point: point[0]) for label, line in lines.items()}


def _main(axes: Any, found: Evaluation) -> None:
    _level(axes, found.dense.accuracy, "dense")
    axes.axhline(found.chance, color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate("chance", (0.995, found.chance), xycoords=("axes fraction", "data"), **_beside(3))
    for number, (label, line) in enumerate(lines_of(found).items()):
        _line(axes, line, number, label, marked=True)
    axes.set_ylabel("accuracy", color=INK)
    _scales(axes, found)
    plain(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 0.08), labelcolor=INK)


def _kinds(grid: Any, found: Evaluation) -> None:
    for axes, kind in zip(grid.flat, found.kinds, strict=False):
        _level(axes, found.dense.by_kind[kind], None)
        axes.axhline(found.chance_by_kind[kind], color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        for number, line in enumerate(lines_of(found, kind).values()):
            _line(axes, line, number, None, marked=False)
        axes.set_title(kind, fontsize=9, color=INK, loc="left", pad=3)
        _scales(axes, found)
        plain(axes)
    for axes in grid.flat[len(found.kinds) :]:
        axes.set_visible(False)


def _level(axes: Any, accuracy: Interval, label: str | None) -> None:
    """The dense accuracy, which has no cost axis: a dashed line with its band."""
    axes.axhspan(accuracy.low, accuracy.high, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
    axes.axhline(accuracy.value, color=INK, linewidth=1, linestyle=(0, (5, 3)))
    if label:
        axes.annotate(label, (0.995, accuracy.value), xycoords=("axes fraction", "data"), **_beside(3))


def _line(axes: Any, line: Line, number: int, label: str | None, marked: bool) -> None:
    """A line with a band; a single point gets a bar instead. The first method stands in front."""
    colour, front = COLOURS[number % len(COLOURS)], 20 - number
    costs = [cost for cost, _ in line]
    values, lows, highs = ([getattr(found, end) for _, found in line] for end in ("value", "low", "high"))
    style = {"color": colour, "zorder": front, "linewidth": 2.2 if number == 0 else 1.4}
    marker = MARKERS[number % len(MARKERS)]
    axes.plot(costs, values, label=label, marker=marker, markersize=6 if marked else 3.5, **style)
    if len(line) == 1:
        axes.vlines(costs, lows, highs, **style)
    elif marked:
        axes.fill_between(costs, lows, highs, color=colour, alpha=0.13, linewidth=0, zorder=front - 15)
    else:
        axes.vlines(costs, lows, highs, color=colour, alpha=0.35, linewidth=1, zorder=front - 15)


def _scales(axes: Any, found: Evaluation) -> None:
    from matplotlib.ticker import PercentFormatter

    costs = [entry.score.cost for entry in found.entries]
    targets = sorted({round(entry.target or entry.score.cost, 2) for entry in found.entries})
    axes.set_xlim(max(0.0, min(costs) - 0.06), min(1.0, max(costs) + 0.06))
    axes.set_xticks(targets, [f"{target:g}" for target in targets])
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _beside(offset: int) -> dict[str, Any]:
    """A small label at the right end of a level."""
    return {
        "xytext": (0, offset),
        "textcoords": "offset points",
        "ha": "right",
        "fontsize": 8,
        "color": QUIET,
    }
