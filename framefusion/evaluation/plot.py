"""Accuracy against equivalent cost: one line per method with its interval, and the same for each kind of question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core.text import for_plot
from framefusion.evaluation.figure import COLOURS, FAINT, INK, MARKERS, QUIET, new_figure, plain, save

if TYPE_CHECKING:
    from framefusion.evaluation.paired import Interval
    from framefusion.evaluation.result import Evaluation

COLUMNS = 4
WIDTH, MAIN_HEIGHT, ROW_HEIGHT, HEAD = 9.0, 4.0, 1.75, 0.4

# A small label at the right end of a level.
BESIDE = {
    "xytext": (0, 3),
    "textcoords": "offset points",
    "ha": "right",
    "fontsize": 8,
    "color": QUIET,
    "zorder": 30,
}

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
        f"{for_plot(found.model)}: {found.samples} questions on unseen clips, 95 % intervals",
        fontsize=11,
        color=INK,
        x=0.5,
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
    _panel(axes, found, None)
    axes.annotate("dense", (0.995, found.dense.accuracy.value), xycoords=("axes fraction", "data"), **BESIDE)
    axes.annotate("chance", (0.995, found.chance), xycoords=("axes fraction", "data"), **BESIDE)
    axes.set_ylabel("accuracy", color=INK)
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=6, labelcolor=INK)


def _kinds(grid: Any, found: Evaluation) -> None:
    for axes, kind in zip(grid.flat, found.kinds, strict=False):
        _panel(axes, found, kind)
        axes.set_title(for_plot(kind), fontsize=9, color=INK, loc="left", pad=3)
    for axes in grid.flat[len(found.kinds) :]:
        axes.set_visible(False)


def _panel(axes: Any, found: Evaluation, kind: str | None) -> None:
    """One kind of question, or all of them: the dense level, the level of chance, and the methods."""
    dense = found.dense.accuracy if kind is None else found.dense.by_kind[kind]
    chance = found.chance if kind is None else found.chance_by_kind[kind]
    axes.axhspan(dense.low, dense.high, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
    axes.axhline(dense.value, color=INK, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    axes.axhline(chance, color=QUIET, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    lines = lines_of(found, kind)
    single = all(len(line) == 1 for line in lines.values())
    for number, (label, line) in enumerate(lines.items()):
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "label": for_plot(label),
        }
        if single:
            _point(axes, number, line[0][1], style)
        else:
            _line(axes, line, style | {"zorder": 20 - number, "linewidth": 1.4 if number else 2.2}, banded=kind is None)
    axes.set_ylim(0, 1.03)
    plain(axes)
    _ticks(axes, found, single)


def _point(axes: Any, place: int, found: Interval, style: dict[str, Any]) -> None:
    """One budget only: methods side by side, in the order of the legend."""
    axes.plot([place], [found.value], linestyle="none", markersize=6, clip_on=False, **style)
    axes.vlines([place], found.low, found.high, color=style["color"], linewidth=2)


def _line(axes: Any, line: Line, style: dict[str, Any], banded: bool) -> None:
    """Intervals are bands where there is room, thin bars in the small panels. The first method stands in front."""
    costs = [cost for cost, _ in line]
    values, lows, highs = ([getattr(found, end) for _, found in line] for end in ("value", "low", "high"))
    axes.plot(costs, values, markersize=6 if banded else 3.5, **style)
    colour, back = style["color"], style["zorder"] - 15
    if banded:
        axes.fill_between(costs, lows, highs, color=colour, alpha=0.13, linewidth=0, zorder=back)
    else:
        axes.vlines(costs, lows, highs, color=colour, alpha=0.35, linewidth=1, zorder=back)


def _ticks(axes: Any, found: Evaluation, single: bool) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    costs = [entry.score.cost for entry in found.entries]
    if single:
        axes.set_xlim(-0.6, len(costs) - 0.4)
        axes.set_xticks(range(len(costs)), [f"{cost:.2f}" for cost in costs])
        return
    targets = [entry.score.cost if entry.target is None else entry.target for entry in found.entries]
    places = sorted({round(target, 2) for target in targets})
    axes.set_xlim(max(0.0, min(costs) - 0.06), min(1.0, max(costs) + 0.06))
    axes.set_xticks(places, [f"{place:g}" for place in places])
