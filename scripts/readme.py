"""What rows and settings of this repository say in README.md; `python -m scripts.readme` writes them.

Speed comes from the rows of `make bench`, versions from the Makefile and constraints.txt.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "README.md"
ROWS = ROOT / "benchmarks" / "results" / "rows.jsonl"
CELL = re.compile(r"0\.5B, (64|256|512) frames")
PLACE = r"(<!-- {}: python -m scripts\.readme -->\n).*?(<!-- end -->)"


def speed(rows: list[dict[str, Any]]) -> str:
    """Prefill and its memory, dense, reduced and at the limit, from the latest row of each."""
    latest = {(row["cell"], row["variant"]): row for row in rows if row["part"] == "prefill"}
    lines = ["| visual tokens | dense | at cost 0.3 | | limit | peak memory |", "|---:|---:|---:|---:|---:|---:|"]
    for cell in dict.fromkeys(row["cell"] for row in rows if CELL.fullmatch(row["cell"])):
        dense, reduced, limit = (latest[cell, variant] for variant in ("dense", "reduced", "oracle"))
        times = [f"{row['median_ms']:,.0f}" for row in (dense, reduced, limit)]
        faster = dense["median_ms"] / reduced["median_ms"]
        memory = f"{dense['peak_mib']:,.0f} → {reduced['peak_mib']:,.0f} MiB"
        cells = [f"{dense['frames'] * dense['patches']:,}", times[0], times[1], f"**{faster:.1f}×**", times[2], memory]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def answers(rows: list[dict[str, Any]]) -> str:
    """How much sooner answers come with fewer patches in the vision tower, from the latest row of each clip."""
    latest = {(row.get("clip"), row["variant"]): row["median_ms"] for row in rows if row["part"] == "end_to_end"}
    faster = {clip: f"**{latest[clip, 'dense'] / latest[clip, 'reduced']:.1f}×**" for clip in CLIPS}
    first, second, moving, still = (faster[clip] for clip in CLIPS)
    return (
        f"With [fewer patches in the vision tower](docs/tower.md) as well, 32 tokens come {first} and {second} sooner\n"
        f"from the file on two clips with a calm background, {moving} on one of cuts and moving cameras, "
        f"{still} on one that stands still.\n"
    )


def tested() -> str:
    """What every change is tested with."""
    make, pins = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "constraints.txt"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest, highest, vllm = (re.findall(rf"^{name} := (\S+)$", make, re.MULTILINE)[0] for name in NAMES)
    torch = re.findall(r"^torch==(\S+)$", pins, re.MULTILINE)[0]
    lmms = re.findall(r"lmms-eval>=([\d.]+)", project)[0]
    rows = {
        "transformers": f"{lowest} and {highest}, and those between by hand",
        "torch": f"{torch}, without a GPU; Triton kernels in Triton's interpreter",
        "GPU": "tests that need one skip without; no times measured",
        "vLLM": f"{vllm.replace('==', ' ')}, tiny checkpoints on the real engine",
        "lmms-eval": f"{lmms} or newer",
    }
    return "| tested with | |\n|---|---|\n" + "".join(f"| {name} | {what} |\n" for name, what in rows.items())


CLIPS = ("bigbuckbunny", "carphone_pristine", "bikes", "still")
NAMES = ("LOWEST", "HIGHEST", "VLLM")


def page(text: str) -> str:
    """README's text with what is made of them made anew."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    made = {"speed": speed(rows), "answers": answers(rows), "tested": tested()}
    for name, table in made.items():
        text = re.sub(PLACE.format(name), partial(_between, table), text, flags=re.DOTALL)
    return text


def _between(table: str, found: re.Match[str]) -> str:
    return found[1] + table + found[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
