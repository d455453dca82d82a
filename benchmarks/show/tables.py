"""Rows as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.rows import Row
from benchmarks.show.growth import exponents
from benchmarks.show.stream import KINDS as STREAMS
from benchmarks.show.stream import stream_tables
from benchmarks.show.tower import fidelity_table
from benchmarks.variants import ALL, VARIANTS


@dataclass(frozen=True)
class Against:
    """A column that compares with another variant. faster: the base in ours, else ours in the base.

    Times are compared round by round, where a busy machine is busy for both, and the median of these ratios is shown.
    """

    head: str
    base: Callable[[str], str]
    faster: bool = False

    def cell(self, rows: list[Row], row: Row, figure: str = "median_ms") -> str:
        name = self.base(row["variant"])
        base = next((other for other in rows if (other["part"], other["variant"]) == (row["part"], name)), None)
        if base is None or base is row or not row.get(figure) or not base.get(figure):
            return ""
        ours, theirs = _rounds(row, figure), _rounds(base, figure)
        if min(len(ours), len(theirs)) < 2:
            ours, theirs = [row[figure]], [base[figure]]
        pairs = list(zip(ours, theirs, strict=False))
        return f"{median(b / a if self.faster else a / b for a, b in pairs):.2f}"


def _rounds(row: Row, figure: str) -> Sequence[float]:
    """Rows of times have one for every round, those of dense fewer than the others; rows of memory have none."""
    return row.get("times_ms") or () if figure == "median_ms" else ()


def _dense_of(variant: str) -> str:
    return variant.replace("reduced", "dense") if "reduced" in variant else "dense"


OF_A_MODEL = (Against("× faster than dense", _dense_of, True), Against("time ÷ oracle", lambda _: "oracle"))
AGAINST = {
    "merge": (
        Against("× faster than published", lambda _: "published", True),
        Against("time ÷ copy", lambda _: "copy"),
        Against("time ÷ oracle", lambda _: "oracle"),
    ),
    "tower": (OF_A_MODEL[0],),
    "seek": (Against("× less than everything", lambda _: "everything", True),),
    "batch": (OF_A_MODEL[0], Against("time ÷ one by one", lambda name: name.replace("batch", "one by one"))),
}
PEAK = Against("peak ÷ dense", _dense_of)
READING = {"parts": "From the file to a token: sums of the medians above."}
PEAKS = "Peak memory is that of the prefill beyond weights and prompt."


def tables(rows: Iterable[Row]) -> str:
    """One table per cell and device, then the fitted growth."""
    groups: dict[tuple[str, str], list[Row]] = {}
    streams: list[Row] = []
    for row in rows:
        if row["kind"] in STREAMS:
            streams.append(row)
            continue
        groups.setdefault((row["cell"], row["device"]), []).append(row)
    parts = [_table(group) for group in groups.values()]
    every = [row for group in groups.values() for row in group]
    return "\n\n".join(
        parts + [more for more in (exponents(every), fidelity_table(every), stream_tables(streams)) if more]
    )


def _table(rows: list[Row]) -> str:
    first = rows[0]
    title = f"### {first['cell']}\n\n{_caption(first)}"
    if all(row["median_ms"] is None for row in rows):
        return f"{title}\n\n{first['note']}."
    rows = [*sorted(rows, key=lambda row: (row["part"] != "prefill", row["part"])), *_sums(rows)]
    against = AGAINST.get(first["kind"], OF_A_MODEL)
    memory = any(row.get("peak_mib") is not None or row.get("kv_bytes") for row in rows)
    lines = [["part", "variant", "median ms", "20–80 % ms", *(column.head for column in against)]]
    lines[0] += ["peak MiB", PEAK.head, "KV MiB"] if memory else []
    lines.append(["---", "---"] + ["---:"] * (len(lines[0]) - 2))
    for row in rows:
        spread = "" if row["p20_ms"] is None else f"{_number(row['p20_ms'])}–{_number(row['p80_ms'])}"
        times = [row["part"], row["variant"], _number(row["median_ms"]), spread]
        lines.append(times + [column.cell(rows, row) for column in against] + (_memory(rows, row) if memory else []))
    notes = (PEAKS if memory else "", READING.get(first["kind"]), *_notes(rows), _layers(rows), _profile(first))
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines), "", *filter(None, notes)])


def _memory(rows: list[Row], row: Row) -> list[str]:
    stored = _number(row["kv_bytes"] / 2**20 if row.get("kv_bytes") else None)
    return [_number(row.get("peak_mib")), PEAK.cell(rows, row, "peak_mib"), stored]


def _notes(rows: list[Row]) -> list[str]:
    """What single rows have to say about their figures."""
    return list(dict.fromkeys(f"{row['part']}: {row['note']}." for row in rows if row.get("note")))


def _sums(rows: list[Row]) -> list[Row]:
    """How long a user waits, where all parts were measured: sums of medians."""
    if rows[0]["kind"] != "parts":
        return []
    medians = {(row["variant"], row["part"]): row["median_ms"] for row in rows}
    before = sum(time for (variant, _), time in medians.items() if variant == ALL)
    found = []
    for variant in VARIANTS:
        first = before + medians[variant, "prefill"]
        answer = first + rows[0]["decode"] * medians[variant, "decode per token"]
        names = ("file to first token", f"file to {rows[0]['decode']} tokens")
        found += [(variant, name, time) for name, time in zip(names, (first, answer), strict=True)]
    spread = {"p20_ms": None, "p80_ms": None}
    return [
        {"variant": variant, "part": part, "median_ms": time, **spread, "kind": "parts"}
        for variant, part, time in found
    ]


def _caption(row: Row) -> str:
    if row["kind"] == "seek":
        return f"{row['video']}; {row['device']}; PyAV {row['pyav']}, commit {row['commit']}."
    layers = f"{row['layers']} of {row['layers_of_the_model']} layers of the {row['shape']} text model"
    tower = f", {row['tower_blocks']} of {row['blocks_of_the_tower']} tower blocks" if row["kind"] == "parts" else ""
    changed = " with changes" if row["changed"] else ""
    versions = f"torch {row['torch']}, transformers {row['transformers']}, commit {row['commit']}{changed}"
    size = f"{row['frames']} × {row['patches']} visual tokens, {row['dtype']}, cost {row['cost']:g}"
    return f"{size}, {layers}{tower}; {row['device']}; {versions}."


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _layers(rows: list[Row]) -> str:
    reduced = next((row for row in rows if row.get("steps")), None)
    if reduced is None:
        return ""
    return f"Tokens per layer {reduced['tokens_per_layer']}: {'; '.join(reduced['steps'])}."


def _profile(row: Row) -> str:
    found = row.get("profile")
    if not found:
        return ""
    return f"Similarity of neighbouring frames: median {found['median']}, 5–95 % {found['p5']}–{found['p95']}."
