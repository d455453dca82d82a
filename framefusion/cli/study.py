"""`framefusion study`: fewer tokens and fewer bits together, and which to take."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import JSON_OPTION, note, print_json, progress_bar, quiet_libraries, words
from framefusion.cli.opening import check_run, open_answers, open_checkpoint
from framefusion.cli.options import (
    CalibrateOption,
    DeviceOption,
    DtypeOption,
    GenKwargsOption,
    IncludePathOption,
    KindsOption,
    LimitOption,
    ModelOption,
    NewTokensOption,
    SamplesOption,
    SeedOption,
    TrustOption,
    build_listed,
    check_questions,
)
from framefusion.core.destination import check_apart, check_file, check_folder, put
from framefusion.core.errors import OptionError
from framefusion.core.lines import encoded
from framefusion.core.options import Count, Option, Share, checked
from framefusion.inference.tiny import NAME as TINY
from framefusion.inference.tiny import is_embedded

if TYPE_CHECKING:
    from framefusion.evaluation.study.grid import Grid
    from framefusion.evaluation.study.run import Study
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.quantization.precision import Width

TINY_BATCH = 20

MethodsOption = Annotated[
    str, typer.Option(metavar="METHOD,…", help="Methods, METHOD[:key=value], besides the dense model.")
]
BudgetsOption = Annotated[
    str,
    typer.Option(
        metavar="C,C,…", help="Equivalent costs, with --tasks the methods' own budgets; 1.0 is the dense model."
    ),
]
WeightsOption = Annotated[str, typer.Option(metavar="W,W,…", help="Bits: 4 is simulated, int4 a library's, 16 none.")]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch",
        "--batch-size",
        help="Questions answered together.  \\[default: 20 for the embedded model, else 1]",
        show_default=False,
    ),
]
TasksOption = Annotated[
    str | None, typer.Option(metavar="TASK,…", help="Tasks of lmms-eval instead of synthetic clips.")
]
ModelArgsOption = Annotated[str | None, typer.Option(help="With --tasks: arguments of lmms-eval's --model.")]
OutOption = Annotated[
    Path | None, typer.Option(help="File of answers, with --tasks a folder.  \\[default: the user's cache; lmms-eval]")
]
# Options of one side only.
OF_YARDSTICK = ("samples", "seed", "kinds", "calibrate", "max_new_tokens", "dtype", "device", "trust_remote_code")
OF_TASKS = ("model_args", "limit", "gen_kwargs", "include_path")
LMMS_FOLDER = Path("lmms-eval")
AttentionsOption = Annotated[
    str, typer.Option(metavar="NAME,…", help="`own`, `sage`, `sage-emulated`, or several of them.")
]


def study(
    context: typer.Context,
    model: ModelOption = TINY,
    methods: MethodsOption = "framefusion,prumerge,random",
    budgets: BudgetsOption = "1.0,0.5,0.3,0.15",
    weights: WeightsOption = "16,8,4",
    activations: Annotated[str, typer.Option(metavar="A,A,…", help="Bits of activations.")] = "16,8",
    kv: Annotated[str, typer.Option(metavar="KV,KV,…", help="Bits of the cache.")] = "16,8,4,2",
    attention: AttentionsOption = "own",
    tower: Annotated[bool, typer.Option("--tower", help="Quantise vision tower and projector as well.")] = False,
    group: Annotated[int, typer.Option(help="Neighbouring weights that share a scale.")] = 128,
    library: Annotated[str, typer.Option(help="Of widths such as int4: torchao, hqq or bitsandbytes.")] = "torchao",
    calibrate: CalibrateOption = False,
    samples: SamplesOption = 240,
    seed: SeedOption = 0,
    kinds: KindsOption = None,
    batch: BatchOption = None,
    max_new_tokens: NewTokensOption = 12,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    tasks: TasksOption = None,
    model_args: ModelArgsOption = None,
    limit: LimitOption = None,
    gen_kwargs: GenKwargsOption = None,
    include_path: IncludePathOption = None,
    out: OutOption = None,
    rows: Annotated[Path | None, typer.Option(metavar="FILE.jsonl", help="Write one line per cell.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Draw heat maps and the frontier.")] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write the tables between its marks.")] = None,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Every method at every budget in every precision, on the same questions, each compared with the dense model.

    A run that was stopped goes on where it was. What is simulated is marked with an asterisk everywhere. With --tasks,
    --model names a model of lmms-eval.

    Example: framefusion study --rows study.jsonl --plots . --page study.md
    """
    widths = weights, activations, kv
    grid = _grid(methods, budgets, widths, attention, tower=tower, group=group, library=library)
    _check_side(context, tasks)
    check_run(dtype, max_new_tokens, device)
    checked("--batch", Count | None, batch, "leave it out for the default")
    _check_outputs(grid, rows, plots, page)
    if tasks is not None:
        folder = out or LMMS_FOLDER
        check_folder(folder, "--out")
        given = {"limit": limit, "gen_kwargs": gen_kwargs, "batch_size": batch or 1}
        found = _on_tasks(grid, folder, model, model_args, tasks, include_path, **given)
    else:
        check_questions(samples, seed, words(kinds))
        answers = open_answers(out)
        check_apart({"--out": out, **_outputs(grid, rows, plots, page)})
        checkpoint = _opened(model, dtype, device, trust_remote_code)
        about = {"samples": samples, "seed": seed, "kinds": words(kinds), "calibrated": calibrate, "records": answers}
        found = _on_yardstick(grid, checkpoint, batch, max_new_tokens, **about)
    _write(found, rows, plots, page)
    _show(found, json)


def _check_side(context: typer.Context, tasks: str | None) -> None:
    """Nobody should believe that an option counted which did not."""
    others = OF_TASKS if tasks is None else OF_YARDSTICK
    for name in others:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            option = f"--{name.replace('_', '-')}"
            hint = "lmms-eval's models are configured in --model-args, their questions by --limit"
            raise OptionError(
                f"{option} goes with --tasks only" if tasks is None else f"{option} does not go with --tasks",
                hint="add --tasks TASK,…" if tasks is None else hint,
            )


def _opened(model: str, dtype: str, device: str | None, trust_remote_code: bool) -> Checkpoint:
    quiet_libraries()
    return open_checkpoint(model, dtype, device, trust_remote_code)


def _on_yardstick(grid: Grid, checkpoint: Checkpoint, batch: int | None, new_tokens: int, **about: Any) -> Study:
    from framefusion.evaluation import Asking
    from framefusion.evaluation.study.run import study as run

    embedded = is_embedded(checkpoint.name)
    share = all(one.simulated or one.full for one in grid.precisions())
    asking = Asking(batch or (TINY_BATCH if embedded else 1), new_tokens, share_tower=share)
    with progress_bar() as watch:
        return run(checkpoint, grid, asking=asking, watch=watch, **about)


def _on_tasks(
    grid: Grid,
    folder: Path,
    model: str,
    model_args: str | None,
    tasks: str,
    include_path: Path | None,
    **given: Any,
) -> Study:
    from framefusion.integrations.lmms.harness import Request
    from framefusion.integrations.lmms.study import study as run

    named = tuple(words(tasks) or ())
    if not named or model_args is None:
        raise OptionError(
            "--tasks names no task" if not named else "--tasks needs --model-args as well",
            hint="--tasks videomme --model qwen2_5_vl --model-args pretrained=CHECKPOINT",
        )
    include = None if include_path is None else str(include_path.resolve())
    return run(Request(model, model_args, named, include_path=include, **given), grid, folder, note)


def _grid(methods: str, budgets: str, widths: tuple[str, str, str], attention: str, **common: Any) -> Grid:
    from framefusion.evaluation.study.grid import Grid
    from framefusion.inference.quantization.precision import Precision

    weights, activations, kv = (tuple(map(_width, words(text) or [])) for text in widths)
    return Grid(
        methods=tuple(build_listed(methods)),
        budgets=Option.of("--budgets", tuple[Share, ...], hint="write --budgets 1.0,0.5,0.3").read(budgets),
        weights=weights,
        activations=activations,
        kv=kv,
        attentions=tuple(None if name == "own" else name for name in words(attention) or []),
        common=Precision(**common),
    )


def _width(text: str) -> Width:
    """A number alone is simulated, for here a table says so."""
    from framefusion.inference.quantization.precision import Width

    return Width.parse(f"sim{text}" if text.isdecimal() and text != "16" else text)


def _check_outputs(grid: Grid, rows: Path | None, plots: Path | None, page: Path | None) -> None:
    """Nobody should learn after an hour that a folder is missing."""
    if plots is not None:
        from framefusion.evaluation.figure import check_figure

        for name in _figures(grid):
            check_figure(_figure(plots, name), "--plots")
    if rows is not None:
        from framefusion.evaluation.study.rows import is_study

        check_file(rows, "--rows", ours=is_study)
    if page is not None:
        from framefusion.evaluation.study.page import check_page

        check_page(page)
    check_apart(_outputs(grid, rows, plots, page))


def _outputs(grid: Grid, rows: Path | None, plots: Path | None, page: Path | None) -> dict[str, Path | None]:
    """Files by what they are made for."""
    figures = {} if plots is None else {f"{name} of --plots": _figure(plots, name) for name in _figures(grid)}
    return {"--rows": rows, "--page": page, **figures}


def _figures(grid: Grid) -> list[str]:
    return list(dict.fromkeys(["frontier", *(method.facts.name for method in grid.methods)]))


def _figure(folder: Path, name: str) -> Path:
    return folder / f"study-{name}.png"


def _write(found: Study, rows: Path | None, plots: Path | None, page: Path | None) -> None:
    if rows is not None:
        put(rows, encoded(row.to_line() for row in found.rows))
        note(f"rows are in {rows}")
    figures = _draw(found, plots) if plots is not None else []
    if page is not None:
        from framefusion.evaluation.study.page import write_page

        write_page(found, shlex.join(["framefusion", *sys.argv[1:]]), page, figures)
        note(f"tables are in {page}")


def _draw(found: Study, folder: Path) -> list[Path]:
    from framefusion.evaluation.study.labels import methods_of
    from framefusion.evaluation.study.plot import draw_frontier, draw_heat_map

    drawn = [_figure(folder, "frontier")]
    draw_frontier(found.rows, found.model, drawn[0])
    for method in methods_of(found.rows):
        drawn.append(_figure(folder, method))
        draw_heat_map(found.rows, method, found.chance or 0.0, drawn[-1])
    note(f"drawn in {', '.join(map(str, drawn))}")
    return drawn


def _show(found: Study, as_json: bool) -> None:
    if as_json:
        import json

        document: dict[str, Any] = {name: getattr(found, name) for name in ("model", "samples", "seed", "chance")}
        document |= {"notes": found.notes, "records": None if found.records is None else str(found.records)}
        print_json(document | {"rows": [json.loads(row.to_line()) for row in found.rows]})
        return
    from framefusion.cli.study_table import show

    show(found)
    for message in found.notes:
        note(message)
    note(f"answers are kept in {found.records}")
