"""What a reduced tower leaves of time and features: a table and a figure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from framefusion.core.text import for_plot
from framefusion.evaluation.figure import COLOURS, INK, MARKERS, QUIET, new_figure, plain, save

REDUCED = "reduced"
HUES = (*COLOURS, QUIET)
LINE = "reduced, by threshold"
FIGURES = (("cosine_mean", "mean cosine"), ("cosine_p05", "5th percentile"))


def fidelities(rows: Iterable[Row]) -> list[Row]:
    """Rows that say how near features are to the dense ones, those of dense left out."""
    return [row for row in rows if row["part"] == "fidelity" and row.get("cosine_mean") and row["variant"] != "dense"]


def fidelity_table(rows: Iterable[Row]) -> str:
    """Share of the patches and cosines, a line per variant and three columns per clip; nothing where there are none."""
    found = fidelities(rows)
    clips, variants = (list(dict.fromkeys(row[name] for row in found)) for name in ("clip", "variant"))
    if not found:
        return ""
    known = {(row["variant"], row["clip"]): row for row in found}
    lines = [["features of a trained ViT", *clips], ["---", *["---:"] * len(clips)]]
    for variant in variants:
        cells = [known.get((variant, clip)) for clip in clips]
        lines.append([variant, *("" if row is None else _in_words(row) for row in cells)])
    note = "Share of the patches encoded: mean cosine to the dense features, 5th percentile."
    return "\n".join(["### Fidelity", "", *(f"| {' | '.join(line)} |" for line in lines), "", note])


def _in_words(row: Row) -> str:
    return f"{row['patches_share']:.2f}: {row['cosine_mean']:.3f}, {row['cosine_p05']:.3f}"


def draw_tower(rows: list[Row], path: Path) -> Path | None:
    """Cosine against share of the patches, a column per clip. Draws nothing, and returns None, without such rows."""
    found = fidelities(rows)
    if not found:
        return None
    # Only what was measured at several thresholds is a curve.
    clips = list(dict.fromkeys(row["clip"] for row in found if row["variant"].startswith(f"{REDUCED}, ")))
    found = [row for row in found if row["clip"] in clips]
    points = list(dict.fromkeys(row["variant"] for row in found if not row["variant"].startswith(f"{REDUCED}, ")))
    figure = new_figure(2.9 * len(clips) + 0.6, 4.6)
    grid = figure.subplots(len(FIGURES), len(clips), squeeze=False, sharex="col", sharey="row")
    for column, clip in enumerate(clips):
        for (name, label), axes in zip(FIGURES, grid[:, column], strict=True):
            own = [row for row in found if row["clip"] == clip]
            line = sorted((row["patches_share"], row[name]) for row in own if row["variant"].startswith(REDUCED))
            axes.plot(*zip(*line, strict=True), color=COLOURS[0], marker="o", markersize=4, label=LINE)
            for row in own:
                if not row["variant"].startswith(f"{REDUCED}, "):
                    _point(axes, row, name, points.index(row["variant"]))
            plain(axes, "both")
            axes.set_xlim(0, 1)
            if not column:
                axes.set_ylabel(label, color=INK, fontsize=9)
        grid[0, column].set_title(for_plot(clip), fontsize=9, color=INK)
        grid[-1, column].set_xlabel("share of patches encoded", color=INK, fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(clips) + 1, frameon=False, fontsize=8, labelcolor=INK
    )
    save(figure, path)
    return path


def _point(axes: Any, row: Row, name: str, style: int) -> None:
    default = row["variant"] == REDUCED
    axes.plot(
        row["patches_share"],
        row[name],
        color=HUES[style % len(HUES)],
        marker="*" if default else MARKERS[(style - 1) % len(MARKERS)],
        markersize=13 if default else 6,
        linestyle="none",
        label="reduced, default threshold" if default else for_plot(row["variant"]),
    )
