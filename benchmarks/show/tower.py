"""What a reduced tower leaves of time and features: a table and a figure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.rows import Row
from framefusion.figure import COLOURS, INK, MARKERS, new_figure, plain, save
from framefusion.text import for_plot

REDUCED = "reduced"
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
    clips, variants = (list(dict.fromkeys(row[name] for row in found)) for name in ("clip", "variant"))
    figure = new_figure(2.9 * len(clips) + 0.6, 4.6)
    grid = figure.subplots(len(FIGURES), len(clips), squeeze=False, sharex="col", sharey="row")
    for column, clip in enumerate(clips):
        for (name, label), axes in zip(FIGURES, grid[:, column], strict=True):
            for row in found:
                if row["clip"] == clip:
                    style = variants.index(row["variant"])
                    axes.plot(
                        row["patches_share"],
                        row[name],
                        color=COLOURS[style % len(COLOURS)],
                        marker="*" if row["variant"] == REDUCED else MARKERS[style % len(MARKERS)],
                        markersize=12 if row["variant"] == REDUCED else 6,
                        linestyle="none",
                        label=for_plot(row["variant"]),
                    )
            plain(axes, "both")
            axes.set_xlim(0, 1)
            if not column:
                axes.set_ylabel(label, color=INK, fontsize=9)
        grid[0, column].set_title(for_plot(clip), fontsize=9, color=INK)
        grid[-1, column].set_xlabel("share of patches encoded", color=INK, fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8, labelcolor=INK)
    save(figure, path)
    return path
