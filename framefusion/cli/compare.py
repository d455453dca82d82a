"""Two answers side by side, dense and reduced."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

from framefusion.cli.console import note, out, working_on
from framefusion.core.text import cell
from framefusion.inference.answer.answer import TIMED_WEIGHTS, Answer, ask, warm_up
from framefusion.inference.report import bytes_for_people as size

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint

# Even, so that each comes first as often as the other.
ROUNDS, FEWEST_ROUNDS, SECONDS = 6, 4, 60.0
TIMES = ("prefill", "decode", "tower")


def run_both(checkpoint: Checkpoint, inputs: dict[str, Any], method: Method, new_tokens: int) -> tuple[Answer, Answer]:
    """Dense and reduced, with times that do not depend on which of them came first.

    Each is run once uncounted, then both in turns, the other one first in every second round: six times, or four where
    that takes more than a minute. Times and peak memory are medians over the rounds.
    """
    variants = {"dense": None, "reduced": method}
    with working_on("warming up"):
        for chosen in variants.values():
            warm_up(checkpoint, inputs, chosen)
    rounds: dict[str, list[Answer]] = {name: [] for name in variants}
    started = time.perf_counter()
    for number in range(ROUNDS):
        if number == FEWEST_ROUNDS and time.perf_counter() - started > SECONDS:
            break
        for name in sorted(variants, reverse=number % 2 == 1):
            with working_on(f"answering, {name}, round {number + 1}"):
                rounds[name].append(ask(checkpoint, inputs, variants[name], new_tokens))
    return _middle(rounds["dense"]), _middle(rounds["reduced"])


def _middle(answers: list[Answer]) -> Answer:
    """One of several equal answers, with the medians of what it took."""
    peaks = [answer.peak_bytes for answer in answers if answer.peak_bytes is not None]
    return replace(
        answers[-1],
        prefill_ms=median(answer.prefill_ms for answer in answers),
        decode_ms=median(answer.decode_ms for answer in answers),
        peak_bytes=round(median(peaks)) if peaks else None,
        tower_ms=_median(answer.tower_ms for answer in answers),
        projector_ms=_median(answer.projector_ms for answer in answers),
    )


def _median(times: Iterable[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return median(known) if known else None


def ratios(dense: Answer, reduced: Answer, timed: bool = True) -> dict[str, float | None]:
    """Dense over reduced: how many times less the reduced run took. timed: False leaves times without a ratio."""
    pairs = {
        "prefill": (dense.prefill_ms, reduced.prefill_ms),
        "tower": (dense.tower_ms, reduced.tower_ms),
        "decode": (dense.decode_ms, reduced.decode_ms),
        "kv_bytes": (dense.kv_bytes, reduced.kv_bytes),
        "visual_tokens": (dense.kept_tokens, reduced.kept_tokens),
    }
    return {
        name: before / after if before is not None and after and (timed or name not in TIMES) else None
        for name, (before, after) in pairs.items()
    }


def show(
    dense: Answer, reduced: Answer, timed: bool, before: Mapping[str, float] | None = None, question: str = ""
) -> None:
    """A table on stdout, and the two answers, under their question where one is given.

    timed: with the times, else a line that says why there are none. before: milliseconds of what comes before the model
    and is the same for both, where that was measured.
    """
    times, runs = ratios(dense, reduced), (dense, reduced)
    table = Table("", "dense", "reduced", "ratio", title=None)
    table.add_row(
        "visual tokens kept", str(dense.kept_tokens), str(reduced.kept_tokens), _times(times["visual_tokens"])
    )
    if reduced.report is not None and (patches := reduced.report.patches_dense):
        ratio = _times(patches / reduced.report.patches)
        table.add_row("patches encoded", str(patches), str(reduced.report.patches), ratio)
    table.add_row("equivalent cost", f"{dense.cost:.0%}", f"{reduced.cost:.1%}", "")
    if timed:
        for name, label in (("decode", "reading the video"), ("processor", "processor")):
            if before is not None:
                table.add_row(label, *[f"{before[name]:.0f} ms"] * 2, "")
        first, each = ([f"{run.prefill_ms:.0f} ms" for run in runs], [f"{run.decode_ms:.1f} ms" for run in runs])
        table.add_row("prefill", *first, _times(times["prefill"]))
        for part, whole, left in (
            ("vision tower", dense.tower_ms, reduced.tower_ms),
            ("projector", dense.projector_ms, reduced.projector_ms),
        ):
            if whole is not None and left is not None:
                times_less = whole / left if left else None
                table.add_row(f"  of it: {part}", f"{whole:.0f} ms", f"{left:.0f} ms", _times(times_less))
        table.add_row("decode per token", *each, _times(times["decode"]))
    table.add_row("KV cache", size(dense.kv_bytes), size(reduced.kv_bytes), _times(times["kv_bytes"]))
    table.add_row("peak memory", size(dense.peak_bytes), size(reduced.peak_bytes), "")
    out.print(table)
    lines = {"question:": question, "dense:": dense.text, "reduced:": reduced.text}
    for label, text in lines.items() if question else list(lines.items())[1:]:
        out.print(f"[bold]{label:10}[/]", end="")
        out.print(cell(text))
    if not timed:
        note(
            f"no times: a model of fewer than {TIMED_WEIGHTS // 10**6} million weights takes as long as Python needs "
            "to call it, whatever it reads"
        )


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
