"""Two answers side by side, dense and reduced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from framefusion.answer.answer import Answer, ask, warm_up
from framefusion.cli.console import out, working_on
from framefusion.report import bytes_for_people as size
from framefusion.text import cell

if TYPE_CHECKING:
    from framefusion.answer.checkpoint import Checkpoint
    from framefusion.method import Method


def run_both(checkpoint: Checkpoint, inputs: dict[str, Any], method: Method, new_tokens: int) -> tuple[Answer, Answer]:
    """Dense first, then reduced, each after an uncounted run of its own."""
    answers = []
    for name, chosen in (("dense", None), ("reduced", method)):
        with working_on(f"answering, {name}"):
            warm_up(checkpoint, inputs, chosen)
            answers.append(ask(checkpoint, inputs, chosen, new_tokens))
    return answers[0], answers[1]


def ratios(dense: Answer, reduced: Answer) -> dict[str, float | None]:
    """Dense over reduced: how many times less the reduced run took."""
    pairs = {
        "prefill": (dense.prefill_ms, reduced.prefill_ms),
        "decode": (dense.decode_ms, reduced.decode_ms),
        "kv_bytes": (dense.kv_bytes, reduced.kv_bytes),
        "visual_tokens": (dense.kept_tokens, reduced.kept_tokens),
    }
    return {name: before / after if after else None for name, (before, after) in pairs.items()}


def show(dense: Answer, reduced: Answer) -> None:
    """A table on stdout."""
    times = ratios(dense, reduced)
    table = Table("", "dense", "reduced", "ratio", title=None)
    table.add_row(
        "visual tokens kept", str(dense.kept_tokens), str(reduced.kept_tokens), _times(times["visual_tokens"])
    )
    table.add_row("equivalent cost", f"{dense.cost:.0%}", f"{reduced.cost:.1%}", "")
    table.add_row("prefill", f"{dense.prefill_ms:.0f} ms", f"{reduced.prefill_ms:.0f} ms", _times(times["prefill"]))
    table.add_row(
        "decode per token", f"{dense.decode_ms:.1f} ms", f"{reduced.decode_ms:.1f} ms", _times(times["decode"])
    )
    table.add_row("KV cache", size(dense.kv_bytes), size(reduced.kv_bytes), _times(times["kv_bytes"]))
    table.add_row("peak memory", size(dense.peak_bytes), size(reduced.peak_bytes), "")
    out.print(table)
    out.print("[bold]dense:[/]   ", end="")
    out.print(cell(dense.text))
    out.print("[bold]reduced:[/] ", end="")
    out.print(cell(reduced.text))


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
