"""Prefill against frames."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Row
from benchmarks.show.growth import exponent, series
from benchmarks.variants import VARIANTS
from framefusion.core.text import for_plot
from framefusion.evaluation.figure import COLOURS, INK, MARKERS, new_figure, plain, save


def draw_growth(rows: list[Row], path: Path) -> Path | None:
    """One line per variant and device, both axes logarithmic. Draws nothing, and returns None, without such cells."""
    found = series(rows)
    if not found:
        return None
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    devices = sorted({device for _, device in found})
    for (variant, device), points in found.items():
        style = VARIANTS.index(variant)
        power = exponent(points)
        label = variant + (f", {device}" if len(devices) > 1 else "") + ("" if power is None else f" (∝ n^{power:.2f})")
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS[style],
            marker=MARKERS[style],
            linestyle=("-", "--", ":")[devices.index(device) % 3],
            markersize=4,
            linewidth=1.4,
            label=for_plot(label),
        )
    axes.set(xscale="log", yscale="log", xlabel="frames", ylabel="prefill, ms")
    ticks = sorted({frames for points in found.values() for frames, _ in points})
    axes.set_xticks(ticks, [str(frames) for frames in ticks])
    axes.minorticks_off()
    plain(axes, "both")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    save(figure, path)
    return path
