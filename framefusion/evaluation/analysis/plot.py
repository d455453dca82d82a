"""The two observations as one figure: where the similarities lie in each layer, and whether their order stays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefusion.core.text import for_plot
from framefusion.evaluation.analysis.similarity import THRESHOLDS
from framefusion.evaluation.figure import INK, QUIET, new_figure, plain, save

if TYPE_CHECKING:
    from framefusion.evaluation.analysis.similarity import Analysis

WIDTH, HEIGHT = 12.5, 3.9
ACCENT = "#D55E00"


def draw(found: Analysis, name: str, path: Path) -> None:
    """Write the figure to `path`; its ending names the format. name: of the model."""
    figure = new_figure(WIDTH, HEIGHT)
    density, shares, ranks = figure.subplots(1, 3, width_ratios=[1.25, 1.0, 1.05])
    _density(figure, density, found)
    _shares(shares, found)
    _ranks(figure, ranks, found)
    videos = "1 video" if found.videos == 1 else f"{found.videos} videos"
    figure.suptitle(
        f"{for_plot(name)}: {found.tokens:,} token pairs of neighbouring frames, {videos}", fontsize=11, color=INK
    )
    save(figure, path)


def _density(figure: Any, axes: Any, found: Analysis) -> None:
    layers = np.arange(found.layers)
    # The root keeps thin tails visible beside a sharp peak.
    image = axes.imshow(
        np.sqrt(found.histogram.T),
        origin="lower",
        aspect="auto",
        extent=(-0.5, found.layers - 0.5, found.low, 1.0),
        cmap="Blues",
        interpolation="nearest",
    )
    axes.plot(layers, found.median, color=INK, linewidth=1.6, label="median")
    for end in (0, -1):
        label = "5 and 95 %" if end == 0 else None
        axes.plot(layers, found.quantiles[:, end], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label=label)
    axes.axhline(found.recommended, color=ACCENT, linewidth=1.2, label=f"recommended threshold {found.recommended:.2f}")
    axes.set_title("cosine with the previous frame", fontsize=10, color=INK, loc="left")
    axes.set_ylabel("cosine", color=INK)
    _layer_axis(axes, found.layers)
    plain(axes)
    axes.grid(visible=False)
    axes.legend(fontsize=8, loc="lower left", framealpha=0.9, edgecolor="none", labelcolor=INK)
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    ticks = np.linspace(0, np.sqrt(found.histogram.max()), 4)
    bar.set_ticks(ticks, labels=[f"{tick**2:.0%}" for tick in ticks])
    _quiet_bar(bar, "share of the pairs in a bin")


def _shares(axes: Any, found: Analysis) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import PercentFormatter

    layers, ramp = np.arange(found.layers), colormaps["viridis"]
    colours = [ramp(number / len(THRESHOLDS)) for number in range(len(THRESHOLDS))]
    for share, colour in zip(found.shares.T, colours, strict=True):
        axes.plot(layers, share, color=colour, linewidth=1.6, marker="o", markersize=3)
    _name_lines(axes, found.shares[-1], colours)
    axes.set_title("pairs at least this similar", fontsize=10, color=INK, loc="left")
    axes.set_ylim(-0.02, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _layer_axis(axes, found.layers)
    plain(axes)


def _name_lines(axes: Any, ends: np.ndarray, colours: list[Any]) -> None:
    """The threshold at the end of each line, moved apart where ends meet."""
    gap, below = 0.055, 1.1
    for number, end in enumerate(ends):
        below = min(float(end), below - gap)
        axes.annotate(
            f"≥ {THRESHOLDS[number]:g}",
            (1.01, below),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colours[number],
            annotation_clip=False,
        )


def _ranks(figure: Any, axes: Any, found: Analysis) -> None:
    values = found.rank_correlation
    low = min(0.0, float(np.nanmin(values))) if not np.isnan(values).all() else 0.0
    image = axes.imshow(values, vmin=low, vmax=1.0, cmap="viridis", interpolation="nearest")
    axes.set_title("rank correlation between layers", fontsize=10, color=INK, loc="left")
    axes.set_ylabel("layer", color=INK)
    _layer_axis(axes, found.layers)
    axes.set_yticks(axes.get_xticks())
    axes.set_ylim(found.layers - 0.5, -0.5)
    axes.tick_params(colors=QUIET, labelsize=8, length=2)
    axes.spines[:].set_visible(False)
    _quiet_bar(figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05), "Spearman")


def _layer_axis(axes: Any, layers: int) -> None:
    step = max(1, layers // 8)
    axes.set_xticks(range(0, layers, step))
    axes.set_xlim(-0.5, layers - 0.5)
    axes.set_xlabel("layer", color=INK)


def _quiet_bar(bar: Any, label: str) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=8, length=2)
    bar.set_label(label, color=INK, fontsize=8)
