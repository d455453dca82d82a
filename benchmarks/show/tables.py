"""Rows as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.rows import Row
from benchmarks.show.growth import exponents
from benchmarks.variants import ALL, VARIANTS

HEADER = ("part", "variant", "median ms", "20–80 % ms", "× dense", "× limit", "peak MiB", "KV MiB")
READING = {
    "merge": "In this table × dense is the speed-up over the published steps, × limit the time in plain copies.",
    "batch": "In this table × limit is the time of a row in the batch in that of the row alone.",
    "parts": "From the file to a token: sums of the medians above.",
}


def tables(rows: Iterable[Row]) -> str:
    """One table per cell and device, then the fitted growth."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["cell"], row["device"]), []).append(row)
    parts = [_table(group) for group in groups.values()]
    growth = exponents([row for group in groups.values() for row in group])
    return "\n\n".join(parts + ([growth] if growth else []))


def _table(rows: list[Row]) -> str:
    first = rows[0]
    title = f"### {first['cell']}\n\n{_caption(first)}"
    if all(row["median_ms"] is None for row in rows):
        return f"{title}\n\n{first['note']}."
    lines = [" | ".join(HEADER), " | ".join(["---", "---"] + ["---:"] * (len(HEADER) - 2))]
    rows = [*sorted(rows, key=lambda row: (row["part"] != "prefill", row["part"])), *_sums(rows)]
    for row in rows:
        dense, limit = (_same_part(rows, row, name) for name in _bases(row))
        lines.append(
            " | ".join(
                (
                    row["part"],
                    row["variant"],
                    _number(row["median_ms"]),
                    "" if row["p20_ms"] is None else f"{_number(row['p20_ms'])}–{_number(row['p80_ms'])}",
                    _ratio(row, dense, lambda ours, base: base / ours),
                    _ratio(row, limit, lambda ours, base: ours / base),
                    _number(row.get("peak_mib")),
                    _number(row["kv_bytes"] / 2**20 if row.get("kv_bytes") else None),
                )
            )
        )
    notes = [note for note in (READING.get(first["kind"]), _layers(rows), _profile(first)) if note]
    return "\n".join([title, "", *(f"| {line} |" for line in lines), "", *notes])


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
    layers = f"{row['layers']} of {row['layers_of_the_model']} layers of the {row['shape']} text model"
    tower = f", {row['tower_blocks']} of {row['blocks_of_the_tower']} tower blocks" if row["kind"] == "parts" else ""
    changed = " with changes" if row["changed"] else ""
    versions = f"torch {row['torch']}, transformers {row['transformers']}, commit {row['commit']}{changed}"
    size = f"{row['frames']} × {row['patches']} visual tokens, {row['dtype']}, cost {row['cost']:g}"
    return f"{size}, {layers}{tower}; {row['device']}; {versions}."


def _bases(row: Row) -> tuple[str, str]:
    """Variants that stand for "dense" and for the limit beside this one."""
    if row["kind"] == "merge":
        return "published", "copy"
    if row["kind"] == "batch":
        return row["variant"].replace("reduced", "dense"), row["variant"].replace("batch", "one by one")
    return "dense", "oracle"


def _same_part(rows: list[Row], row: Row, variant: str) -> Row | None:
    return next((other for other in rows if (other["part"], other["variant"]) == (row["part"], variant)), None)


def _ratio(row: Row, base: Row | None, of: Callable[[float, float], float]) -> str:
    if base is None or base is row or not row["median_ms"] or not base["median_ms"]:
        return ""
    return f"{of(row['median_ms'], base['median_ms']):.2f}"


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
