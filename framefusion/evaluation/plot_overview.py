"""All methods of an evaluation: a panel per equivalent cost, a row per method, accuracy with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core.text import for_plot
from framefusion.evaluation.equal_cost import is_far
from framefusion.evaluation.figure import COLOURS, FAINT, INK, QUIET, new_figure, plain, save

if TYPE_CHECKING:
    from framefusion.evaluation.result import Entry, Evaluation

WIDTH, ROW_HEIGHT, HEAD = 11.0, 0.21, 1.1


def ranked(found: Evaluation, target: float | None) -> list[Entry]:
    """Entries at `target`, the most accurate first."""
    entries = [entry for entry in found.entries if entry.target == target]
    return sorted(entries, key=lambda entry: -entry.score.accuracy.value)


def control_labels(found: Evaluation) -> list[str]:
    """The controls, in the order in which they were given."""
    return list(dict.fromkeys(entry.label for entry in found.entries if entry.role == "control"))


def draw_overview(found: Evaluation, path: Path) -> None:
    """Write the figure to `path`; its ending names the format. Raises OptionError where that fails.

    Rows are in the order of the mean accuracy over the costs. A ring marks a cost that is not the one asked for.
    """
    targets = list(dict.fromkeys(entry.target for entry in found.entries))
    labels = _order(found)
    figure = new_figure(WIDTH, HEAD + ROW_HEIGHT * len(labels))
    grid = figure.subplots(1, len(targets), sharey=True, sharex=True, squeeze=False)[0]
    for axes, target in zip(grid, targets, strict=True):
        _panel(axes, found, target, labels)
    grid[0].set_yticks(range(len(labels)), [for_plot(label) for label in labels])
    for tick, label in zip(grid[0].get_yticklabels(), labels, strict=True):
        tick.set_color(COLOURS[1] if label in control_labels(found) else INK)
    grid[0].set_ylim(len(labels) - 0.4, -0.6)
    figure.supxlabel("accuracy with 95 % intervals; dashed: dense; ring: another cost than asked for", fontsize=9)
    figure.suptitle(f"{for_plot(found.model)}: {found.samples} questions, seed {found.seed}", fontsize=11, color=INK)
    save(figure, path)


def _order(found: Evaluation) -> list[str]:
    values: dict[str, list[float]] = {}
    for entry in found.entries:
        values.setdefault(entry.label, []).append(entry.score.accuracy.value)
    return sorted(values, key=lambda label: -sum(values[label]) / len(values[label]))


def _panel(axes: Any, found: Evaluation, target: float | None, labels: list[str]) -> None:
    from matplotlib.ticker import PercentFormatter

    dense, controls = found.dense.accuracy, control_labels(found)
    axes.axvspan(dense.low, dense.high, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
    axes.axvline(dense.value, color=INK, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    for entry in ranked(found, target):
        place, accuracy = labels.index(entry.label), entry.score.accuracy
        colour = COLOURS[1] if entry.label in controls else COLOURS[0]
        off = target is not None and is_far(entry.score.cost, target)
        axes.hlines(place, accuracy.low, accuracy.high, color=colour, linewidth=1.6, alpha=0.5, zorder=2)
        axes.plot(
            [accuracy.value], [place], "o", color=colour, markerfacecolor="white" if off else colour, markersize=4.5
        )
    plain(axes, grid="both")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title(
        "as configured" if target is None else f"cost {target:g}", fontsize=9, color=QUIET, loc="left", pad=3
    )
