"""Rows and page of all methods from what the command printed.

framefusion evaluate --all --sweep 0.5,0.3,0.15,0.08 --plot docs/all-methods.png --json > all.json
python -m scripts.all_methods_page all.json "framefusion evaluate --all ..."
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
ROWS, PAGE = DOCS / "all-methods.jsonl", DOCS / "all-methods.md"
KEPT = ("label", "options", "role", "target", "cost", "accuracy", "interval", "by_kind", "decision_ms")


def rows(found: dict[str, Any], command: str) -> list[dict[str, Any]]:
    """The run, then the dense model, then an entry for every method and cost."""
    about = {"command": command, **{name: found[name] for name in ("model", "samples", "seed", "chance", "notes")}}
    dense = {name: found["dense"][name] for name in ("accuracy", "interval", "by_kind")}
    ahead: dict[tuple[str, float], dict[str, list[float]]] = {}
    for one in found["comparisons"]:
        ahead.setdefault((one["method"], one["target"]), {})[one["control"]] = ends(one)
    entries = [
        {name: entry[name] for name in KEPT} | {"before": ahead.get((entry["label"], entry["target"]), {})}
        for entry in found["entries"]
    ]
    return [about, dense, *entries]


def ends(paired: dict[str, Any]) -> list[float]:
    """A paired difference and the ends of its interval."""
    return [paired["difference"], *paired["difference_interval"]]


def page(lines: list[dict[str, Any]]) -> str:
    """The text of docs/all-methods.md."""
    about, dense, *entries = lines
    low, high = dense["interval"]
    text = [
        "# All methods in one table",
        "",
        "Every registered method with its default options on synthetic video questions, at equal",
        "[cost](evaluate.md#equal-cost), the most accurate first. *Before*: points ahead of a control on the same",
        "questions, with paired 95 % intervals. *Decision*: time of the method's own code for a clip, on two cores.",
        "The rows are in [all-methods.jsonl](all-methods.jsonl); `scripts/all_methods_page.py` makes this page.",
        "",
        "```console",
        f"$ {about['command']}",
        "```",
        "",
        "![Accuracy of every method at every cost](all-methods.png)",
        "",
        f"{about['samples']} questions of seed {about['seed']} to `{about['model']}`: dense {dense['accuracy']:.1%}",
        f"({low:.1%} to {high:.1%}), chance {about['chance']:.1%}.",
    ]
    controls = list(dict.fromkeys(entry["label"] for entry in entries if entry["role"] == "control"))
    for target in dict.fromkeys(entry["target"] for entry in entries):
        text += ["", f"## Cost {target:g}", "", *_table([e for e in entries if e["target"] == target], controls)]
    if about["notes"]:
        text += ["", "## Notes of the run", "", *(f"- {note}" for note in about["notes"])]
    return "\n".join(text) + "\n"


def _table(entries: list[dict[str, Any]], controls: list[str]) -> list[str]:
    heads = ["method", "cost", "accuracy", *(f"before {label}" for label in controls), "decision"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for entry in sorted(entries, key=lambda entry: -entry["accuracy"]):
        name = f"*{entry['label']}*" if entry["role"] == "control" else f"`{entry['label']}`"
        ahead = [points(entry["before"].get(label)) for label in controls]
        time = "" if entry["decision_ms"] is None else f"{entry['decision_ms']:.1f} ms"
        cells = [name, f"{entry['cost']:.1%}", accuracy(entry), *ahead, time]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def accuracy(entry: dict[str, Any]) -> str:
    """Of an entry, with the ends of its interval."""
    low, high = entry["interval"]
    return f"{entry['accuracy']:.1%} ({100 * low:.0f} to {100 * high:.0f})"


def points(found: list[float] | None) -> str:
    """A difference and the ends of its interval, in points."""
    return "" if found is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in found))


def main(given: str, command: str) -> None:
    lines = rows(json.loads(Path(given).read_text(encoding="utf-8")), command)
    ROWS.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    PAGE.write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
