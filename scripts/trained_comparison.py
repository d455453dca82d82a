"""Rows, figure and page of the reducers that come with the package, from what `framefusion evaluate --json` printed.

framefusion evaluate --method llava_mini --compare random,divprune --samples 1200 --seed 7001 --json > mini.json
framefusion evaluate --all --sweep 0.015625,0.0078125 --samples 240 --seed 909 --json > every.json
python -m scripts.trained_comparison mini.json:13:random,divprune every.json

Behind the colons are the minutes that training took on one core, and what `--compare` was given. A file without them is
one of every method.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from framefusion.core.registry import method
from framefusion.evaluation.figure import COLOURS, INK, QUIET, new_figure, plain, save
from scripts.all_methods_page import accuracy, ends, points

FOLDER = Path(__file__).parents[1] / "docs"
ROWS, FIGURE, PAGE = (FOLDER / f"trained-comparison.{ending}" for ending in ("jsonl", "png", "md"))
ABOUT = ("model", "samples", "seed", "chance", "chance_by_kind")
SCORE = ("accuracy", "interval", "by_kind", "kept_fraction", "cost")
# Visual tokens of a clip of the yardstick.
PATCHES = 512


def row(found: dict[str, Any], minutes: float, compare: str) -> dict[str, Any]:
    """What is kept of one run. minutes: of the training, on one core. compare: what the command was given."""
    first, *others = found["entries"]
    against = {one["control"]: one for one in found["comparisons"]}
    entries = [
        {name: entry[name] for name in SCORE}
        | {"label": entry["label"], "ahead": ends(against[entry["label"]])}
        | {"ahead_by_kind": {kind: ends(one) for kind, one in against[entry["label"]]["by_kind"].items()}}
        for entry in others
    ]
    return {
        **{name: found[name] for name in ABOUT},
        "minutes": minutes,
        "compare": compare,
        "dense": {name: found["dense"][name] for name in SCORE},
        "trained": {name: first[name] for name in SCORE} | {"label": first["method"], "options": first["options"]},
        "without": sorted(entries, key=lambda entry: -entry["accuracy"]),
    }


def every(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one run of every method: the fewest tokens that each came to at each target, and its score."""
    entries = [
        {name: entry[name] for name in ("label", "target", "cost", "accuracy", "interval")}
        for entry in found["entries"]
    ]
    dense = found["dense"]["accuracy"]
    return {**{name: found[name] for name in ("model", "samples", "seed")}, "dense": dense, "every": entries}


def page(lines: list[dict[str, Any]]) -> str:
    """The text of docs/trained-comparison.md."""
    rows = [one for one in lines if "trained" in one]
    text = [
        "# Trained reducers beside methods without training",
        "",
        "The [reducers that come with the package](train.md#reducers-that-come-with-the-package) and methods",
        "that learn nothing, each leaving the same number of visual tokens of a clip to the embedded model, on the",
        "same synthetic questions. The number is the equivalent cost: tokens that a decoder layer reads, on average",
        "over its layers. It does not hold what a method does in front of the decoder: LLaVA-Mini's pre-fusion",
        "layers read every token once. A trained reducer has seen questions of these kinds in training, about other",
        "clips, and brings adapters of the language model along; the others have seen none, and the model reads them",
        "as it is. Training shared its core with other work. *Ahead*: points of the trained reducer in front of the",
        "method, with paired 95 % intervals. The rows are in [trained-comparison.jsonl](trained-comparison.jsonl);",
        "`scripts/trained_comparison.py` makes this page.",
        "",
        "![Accuracy of trained reducers and of methods without training at the same count](trained-comparison.png)",
    ]
    for one in rows:
        text += ["", *_section(one)]
    for one in lines:
        if "every" in one:
            text += ["", *_of_every(one)]
    return "\n".join(text) + "\n"


def _of_every(one: dict[str, Any]) -> list[str]:
    targets = list(dict.fromkeys(entry["target"] for entry in one["every"]))
    by_label: dict[str, dict[float, dict[str, Any]]] = {}
    for entry in one["every"]:
        by_label.setdefault(entry["label"], {})[entry["target"]] = entry
    asked = f"--sweep {','.join(f'{target:g}' for target in targets)} --samples {one['samples']} --seed {one['seed']}"
    heads = [f"asked for {target * PATCHES:.0f} tokens | right" for target in targets]
    lines = [
        "## Every method without training",
        "",
        "```console",
        f"$ framefusion evaluate --all {asked}",
        "```",
        "",
        f"Fewer questions, of another seed, to see which of all methods stand out: dense {one['dense']:.1%}.",
        "What a method cannot bring down so far, because layers in front of its first cut read everything or because",
        "it keeps something of every frame, reads more tokens, as the table says.",
        "",
        f"| | {' | '.join(heads)} |",
        "|---|" + "---:|---:|" * len(targets),
    ]
    for label, own in sorted(by_label.items(), key=lambda item: -max(entry["accuracy"] for entry in item[1].values())):
        cells = [f"{_tokens(own[at])} | {own[at]['accuracy']:.1%}" if at in own else " | " for at in targets]
        lines.append(f"| `{label}` | {' | '.join(cells)} |")
    return lines


def _section(one: dict[str, Any]) -> list[str]:
    trained = one["trained"]
    asked = f"--compare {one['compare']} --samples {one['samples']} --seed {one['seed']} --share-tower"
    dense, chance = one["dense"]["accuracy"], one["chance"]
    lines = [
        f"## {method(trained['label']).facts.title}",
        "",
        "```console",
        f"$ framefusion train {trained['label']} --out again       # {one['minutes']:.0f} minutes of one core",
        f"$ framefusion evaluate --method {trained['label']} \\",
        f"    {asked}",
        "```",
        "",
        f"Dense {dense:.1%} with {PATCHES} tokens a clip, chance {chance:.1%}.",
        "",
        "| | tokens a clip | right | ahead |",
        "|---|---:|---:|---:|",
        f"| **{method(trained['label']).facts.title}, trained** | {_tokens(trained)} | {accuracy(trained)} | |",
    ]
    for entry in one["without"]:
        lines.append(f"| `{entry['label']}` | {_tokens(entry)} | {accuracy(entry)} | {points(entry['ahead'])} |")
    best = one["without"][0]
    lines += ["", f"Kind by kind, beside the best without training, `{best['label']}`:", ""]
    lines += ["| kind | dense | trained | without | ahead |", "|---|---:|---:|---:|---:|"]
    for kind, ahead in best["ahead_by_kind"].items():
        values = (one["dense"]["by_kind"][kind], trained["by_kind"][kind], best["by_kind"][kind])
        lines.append(f"| {kind} | {' | '.join(f'{value:.0%}' for value in values)} | {_known(ahead)} |")
    return lines


def _tokens(entry: dict[str, Any]) -> str:
    return f"{entry['cost'] * PATCHES:.1f}"


def _known(ahead: list[float]) -> str:
    """Of a kind with too few questions nothing is known."""
    return "" if None in ahead else points(ahead)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each trained reducer, two in a line: accuracy with its interval, the best at the top."""
    most = max(len(one["without"]) for one in rows)
    columns, lines = min(2, len(rows)), -(-len(rows) // 2)
    figure = new_figure(4.6 * columns, (0.8 + 0.32 * (most + 1)) * lines)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(rows) :]:
        axes.remove()
    for axes, one in zip(panels[: len(rows)], rows, strict=True):
        entries = sorted([one["trained"], *one["without"]], key=lambda entry: entry["accuracy"])
        for place, entry in enumerate(entries):
            low, high = entry["interval"]
            colour = COLOURS[1] if entry is one["trained"] else COLOURS[0]
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=1.5)
            axes.plot([100 * entry["accuracy"]], [place], "o", color=colour, markersize=5)
        axes.axvline(100 * one["dense"]["accuracy"], color=INK, linewidth=1, linestyle=(0, (5, 3)))
        axes.axvline(100 * one["chance"], color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_yticks(range(len(entries)), [entry["label"] for entry in entries])
        axes.set_xlim(0, 100)
        title = f"{method(one['trained']['label']).facts.title}, {_tokens(one['trained'])} tokens a clip"
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("right answers, % (dashed: dense, dotted: chance)", fontsize=8, color=QUIET)
        plain(axes, "x")
    save(figure, path)


def main(*given: str) -> None:
    rows = []
    for words in given:
        name, *told = words.split(":", 2)
        found = json.loads(Path(name).read_text(encoding="utf-8"))
        rows.append(row(found, float(told[0]), told[1]) if told else every(found))
    ROWS.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")
    draw([one for one in rows if "trained" in one], FIGURE)


if __name__ == "__main__":
    main(*sys.argv[1:])
