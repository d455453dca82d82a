"""`framefusion lmms-eval`: a benchmark dense and reduced, with the difference and how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from framefusion.cli.console import JSON_OPTION, note, out, print_json, words
from framefusion.cli.options import (
    CostOption,
    GenKwargsOption,
    IncludePathOption,
    LimitOption,
    MethodOption,
    QuantizeOption,
    SettingsOption,
    build_method,
)
from framefusion.core.destination import check_folder
from framefusion.core.text import cell
from framefusion.inference.report import bytes_for_people


def lmms_eval(
    model: Annotated[str, typer.Option(help="Model of lmms-eval, such as qwen2_5_vl.", show_default=False)],
    model_args: Annotated[str, typer.Option(help="Its arguments, pretrained=… among them.", show_default=False)],
    tasks: Annotated[str, typer.Option(help="Tasks of lmms-eval, separated by commas.", show_default=False)],
    method: MethodOption = "framefusion",
    cost: CostOption = 0.3,
    settings: SettingsOption = None,
    quantize: QuantizeOption = None,
    quantize_dense: Annotated[
        str | None,
        typer.Option(metavar="PART=WIDTH,…", help="Other bits for the dense half; `none` leaves it as it is loaded."),
    ] = None,
    limit: LimitOption = None,
    batch_size: Annotated[int, typer.Option(help="Prompts at a time; many models of lmms-eval take one only.")] = 1,
    gen_kwargs: GenKwargsOption = None,
    include_path: IncludePathOption = None,
    folder: Annotated[Path, typer.Option("--out", help="Where results are kept, and found again.")] = Path("lmms-eval"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is there already.")] = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Run TASKS dense and reduced through lmms-eval, and compare them question by question.

    --quantize narrows both halves, so that the difference is what fewer tokens cost.

    Example: framefusion lmms-eval --model qwen2_5_vl --model-args pretrained=CHECKPOINT --tasks videomme --keep 0.3
    """
    from framefusion.integrations.lmms.compare import run_pair
    from framefusion.integrations.lmms.harness import Request
    from framefusion.integrations.lmms.options import precision_of

    check_folder(folder, "--out")
    chosen = build_method(method, cost, settings or [])
    precision = precision_of(quantize)
    options = {"method": method, **chosen.options()}
    request = Request(
        model=model,
        model_args=model_args,
        tasks=tuple(words(tasks) or ()),
        batch_size=batch_size,
        limit=limit,
        gen_kwargs=gen_kwargs,
        include_path=None if include_path is None else str(include_path.resolve()),
    )
    before = precision if quantize_dense is None else precision_of(quantize_dense)
    found = run_pair(request, options, folder, fresh, note, precision, before)
    if json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    table = Table("task", "metric", "dense", "reduced", "n", "difference", "95 % interval", "p")
    rows = found["tasks"]
    if found["all"]:
        rows = [*rows, {"task": "all", "metric": "mean score", "dense": None, "reduced": None, "paired": found["all"]}]
    for row in rows:
        pair, names = row["paired"], (cell(row["task"]), cell(row["metric"]))
        if pair is None:
            scores = (cell(_score(row["dense"])), cell(_score(row["reduced"])))
            table.add_row(*names, *scores, "0", "", "", "")
            continue
        table.add_row(
            *names,
            cell(_score(pair["dense"] if row["dense"] is None else row["dense"])),
            cell(_score(pair["reduced"] if row["reduced"] is None else row["reduced"])),
            str(pair["n"]),
            f"{pair['difference']:+.4f}",
            f"{pair['low']:+.4f} … {pair['high']:+.4f}",
            f"{pair['p_value']:.3g}",
        )
    out.print(table)
    _show_price(found)


def _score(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _show_price(found: dict[str, Any]) -> None:
    dense, reduced = found["dense"], found["reduced"]
    if "kept_fraction" in reduced:
        out.print(f"kept {reduced['kept_fraction']:.1%} of the visual tokens, equivalent cost {reduced['cost']:.1%}")
    if found["prefill_ratio"]:
        before, after = dense["prefill_ms_median"], reduced["prefill_ms_median"]
        out.print(f"prefill {before:.0f} ms -> {after:.0f} ms, {found['prefill_ratio']:.2f}x, vision tower included")
    if dense.get("kv_bytes") and reduced.get("kv_bytes"):
        sizes = [bytes_for_people(round(half["kv_bytes"])) for half in (dense, reduced)]
        out.print(f"KV cache of a prompt {sizes[0]} -> {sizes[1]}")
    for name, half in (("dense", dense), ("reduced", reduced)):
        if half.get("failed"):
            note(f"{half['failed']:.0f} of the {name} prompts failed; lmms-eval scored them as empty answers")
