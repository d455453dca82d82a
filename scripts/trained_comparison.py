"""Rows, figure and tables of docs/methods/trained-comparison.md from what `framefusion evaluate --json` printed.

framefusion evaluate --method llava_mini --compare ... --json > llava_mini.json
python -m scripts.trained_comparison llava_mini.json:12 vqtoken.json:7

The number behind each file is the CPU minutes of the training. Writes docs/methods/trained-comparison.jsonl and .png,
and puts the tables into the page, between its marks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framefusion.evaluation.figure import COLOURS, INK, QUIET, new_figure, plain, save

PAGE = Path(__file__).parents[1] / "docs" / "methods" / "trained-comparison.md"
ROWS, FIGURE = PAGE.with_suffix(".jsonl"), PAGE.with_suffix(".png")
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
ABOUT = ("model", "samples", "seed", "chance", "chance_by_kind")
ENTRY = ("label", "options", "kept_fraction", "cost", "accuracy", "interval", "by_kind")
PATCHES = 512
"""Visual tokens of a clip of the yardstick."""

Row = dict[str, Any]


def row_of(found: Row, minutes: float) -> Row:
    """One evaluation: the trained system first, then the methods it is compared with. minutes: of its training."""
    ahead = {
        one["control"]: {
            "difference": [one["difference"], *one["difference_interval"]],
            "by_kind": {kind: part["difference"] for kind, part in one["by_kind"].items()},
        }
        for one in found["comparisons"]
    }
    system, *others = ({name: entry[name] for name in ENTRY} for entry in found["entries"])
    dense = {name: found["dense"][name] for name in ("accuracy", "interval", "by_kind")}
    about = {name: found[name] for name in ABOUT} | {"minutes": minutes}
    controls = [{**other, "ahead": ahead[other["label"]]} for other in others]
    return {**about, "dense": dense, "system": system, "others": ranked(controls)}


def ranked(entries: Sequence[Row]) -> list[Row]:
    """The most accurate first."""
    return sorted(entries, key=lambda entry: (-entry["accuracy"], entry["label"]))


def tables(rows: Sequence[Row]) -> str:
    """Of each evaluation: all methods, then the system and the best others kind by kind."""
    return "\n\n".join(
        "\n".join([f"### `{row['system']['label']}`", "", *_verdict(row), "", *_all(row), "", *_kinds(row)])
        for row in rows
    )


def _verdict(row: Row) -> list[str]:
    best = row["others"][0]
    difference, low, high = (100 * end for end in best["ahead"]["difference"])
    asked = f"{row['samples']:,} questions of seed {row['seed']}, {100 * row['chance']:.1f} % by guessing."
    ahead = f"`{best['label']}`, by {difference:+.1f} points ({low:+.1f} to {high:+.1f})."
    return [f"{asked} Ahead of the best of the others, {ahead}", f"Its training took {row['minutes']:.0f} CPU minutes."]


def _all(row: Row) -> list[str]:
    lines = ["| | tokens of a clip | right, % | ahead by (points) |", "|---|---:|---:|---:|"]
    for entry in [row["system"], *row["others"]]:
        ends = entry["ahead"]["difference"] if "ahead" in entry else None
        ahead = "" if ends is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * end for end in ends))
        name = f"**{entry['label']}**" if ends is None else f"`{entry['label']}`"
        lines.append(f"| {name} | {PATCHES * entry['cost']:.1f} | {_percent(entry)} | {ahead} |")
    return [*lines, f"| dense | {PATCHES} | {_percent(row['dense'])} | |"]


def _percent(entry: Row) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * value for value in (entry["accuracy"], *entry["interval"])))


def _kinds(row: Row) -> list[str]:
    shown = [row["dense"] | {"label": "dense"}, row["system"], *row["others"][:4]]
    lines = [
        f"| right, % | chance | {' | '.join(entry['label'] for entry in shown)} |",
        "|---|" + "---:|" * (1 + len(shown)),
    ]
    for kind, chance in row["chance_by_kind"].items():
        cells = (f"{100 * entry['by_kind'][kind]:.0f}" for entry in shown)
        lines.append(f"| {kind} | {100 * chance:.0f} | {' | '.join(cells)} |")
    return lines


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each evaluation: accuracies with their intervals, the dense model as a dashed line."""
    figure = new_figure(4.6 * len(rows), 1.4 + 0.24 * max(len(row["others"]) for row in rows))
    for axes, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, strict=True):
        entries = [row["system"], *row["others"]]
        for height, entry in enumerate(reversed(entries)):
            colour = COLOURS[1] if entry is row["system"] else COLOURS[0]
            low, high = (100 * end for end in entry["interval"])
            axes.plot([low, high], [height, height], color=colour, linewidth=1.5)
            axes.plot([100 * entry["accuracy"]], [height], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(entries)), [entry["label"] for entry in reversed(entries)])
        axes.axvline(100 * row["dense"]["accuracy"], color=INK, linewidth=1, linestyle="--")
        axes.axvline(100 * row["chance"], color=QUIET, linewidth=1, linestyle=":")
        axes.set_xlabel("right answers, % (dashed: dense, dotted: guessing)", color=INK, fontsize=8)
        tokens = f"{PATCHES * row['system']['cost']:.0f} of {PATCHES} tokens"
        axes.set_title(f"{row['system']['label']}, {tokens}", color=INK, fontsize=10)
        plain(axes, grid="x")
    save(figure, path)


def placed(page: str, made: str) -> str:
    """`page` with the tables between its marks."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}"


def main(files: Sequence[str]) -> None:
    named = (file.rpartition(":") for file in files)
    rows = [row_of(json.loads(Path(file).read_text(encoding="utf-8")), float(minutes)) for file, _, minutes in named]
    ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    draw(rows, FIGURE)
    PAGE.write_text(placed(PAGE.read_text(encoding="utf-8"), tables(rows)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
