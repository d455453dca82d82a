"""A heat map per method, and the iso-memory frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framefusion.core.text import for_plot
from framefusion.evaluation.figure import COLOURS, FAINT, INK, MARKERS, QUIET, new_figure, plain, save
from framefusion.evaluation.study.frontier import Plane, frontier, on_plane, one_axis, planes
from framefusion.evaluation.study.labels import column_of, methods_of, share_of_all, title_of
from framefusion.evaluation.study.rows import Row

PANEL_WIDTH, PANEL_HEIGHT, HEAD = 2.5, 2.1, 0.7
PALE_BELOW = 0.55
DOTS, DASHES = (0, (1, 2)), (0, (5, 2))


def draw_heat_map(rows: Sequence[Row], method: str, chance: float, path: Path) -> None:
    """Accuracy over budget (down) and cache bits (across), a panel per width of weights and activations.

    The row of budget 1 is the dense model. Raises OptionError where the file cannot be written.
    """
    shown = [row for row in rows if row.method == method or row.budget == 1.0]
    panels = planes(shown)
    across = max(1, len({row.weights for row in shown}))
    down = -(-len(panels) // across)
    figure = new_figure(0.8 + PANEL_WIDTH * across, HEAD + PANEL_HEIGHT * down)
    grid = figure.subplots(down, across, squeeze=False)
    image = None
    for number, panel in enumerate(panels):
        # Activations and attention go down, weights across.
        axes = grid.T.flat[number]
        image = _panel(axes, on_plane(shown, panel), chance)
        axes.set_title(for_plot(title_of(*panel)), fontsize=9, color=INK, loc="left", pad=4)
    for axes in grid.T.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("bits of the KV cache; * simulated", fontsize=9, color=INK)
    figure.supylabel("share of visual tokens read", fontsize=9, color=INK)
    figure.suptitle(f"{for_plot(method)}: accuracy, {rows[0].questions} questions per cell", fontsize=11, color=INK)
    bar = figure.colorbar(image, ax=grid, shrink=0.6, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=8, length=2)
    save(figure, path)


def _panel(axes: Any, rows: Sequence[Row], chance: float) -> Any:
    budgets = sorted({row.budget for row in rows}, reverse=True)
    columns = list(dict.fromkeys(row.kv for row in rows))
    found = {(row.budget, row.kv): row.accuracy.value for row in rows}
    values = [[found.get((budget, kv), float("nan")) for kv in columns] for budget in budgets]
    image = axes.imshow(values, cmap="Blues", vmin=chance, vmax=1.0, aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            if value == value:
                shade = (value - chance) / (1 - chance)
                colour = "white" if shade > PALE_BELOW else INK
                axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(columns)), [column_of(kv) for kv in columns])
    axes.set_yticks(range(len(budgets)), ["dense" if budget == 1.0 else f"{budget:g}" for budget in budgets])
    axes.tick_params(colors=QUIET, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    return image


def draw_frontier(rows: Sequence[Row], model: str, path: Path) -> None:
    """Accuracy against bytes of the cache: every cell, dropping only bits, dropping only tokens, and the best pairs."""
    shown = planes(rows)
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(1.2 + 3.1 * across, 1.2 + 2.4 * down)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, plane in zip(grid.flat, shown, strict=False):
        _frontier_panel(axes, rows, plane)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8, labelcolor=INK)
    for axes in grid[-1]:
        axes.set_xlabel("KV cache of one prompt, share of dense", fontsize=9, color=INK)
    figure.supylabel("accuracy", fontsize=9, color=INK)
    figure.suptitle(
        f"{for_plot(model)}: tokens or bits? {rows[0].questions} questions per cell", fontsize=11, color=INK
    )
    save(figure, path)


def _frontier_panel(axes: Any, rows: Sequence[Row], plane: Plane) -> None:
    group = on_plane(rows, plane)
    for number, method in enumerate(methods_of(rows)):
        points = [(share_of_all(row, rows), row.accuracy.value) for row in group if row.method == method]
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "label": for_plot(method),
        }
        if points:
            axes.plot(*zip(*points, strict=True), linestyle="none", markersize=3.5, alpha=0.6, **style)
    lead = methods_of(rows)[0]
    lines = zip(one_axis(rows, plane, lead), (DOTS, DASHES), ("fewer bits only", f"{for_plot(lead)} only"), strict=True)
    for line, dashes, label in lines:
        if len(line) > 1:
            places, heights = [share_of_all(row, rows) for row in line], [row.accuracy.value for row in line]
            axes.plot(places, heights, color=QUIET, linewidth=1, linestyle=dashes, label=label, zorder=1)
    best = frontier(rows, plane, sorted({share_of_all(row, rows) for row in group}))
    places, heights = [one.share for one in best], [one.chosen.accuracy.value for one in best]
    axes.step(places, heights, where="post", color=INK, linewidth=1.4, label="best that fits", zorder=2)
    axes.set_xscale("log", base=2)
    axes.set_title(for_plot(title_of(*plane)), fontsize=9, color=INK, loc="left", pad=4)
    axes.set_ylim(0, 1.03)
    plain(axes)
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    _percent(axes)


def _percent(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
