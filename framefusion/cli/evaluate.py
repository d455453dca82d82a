"""`framefusion evaluate`: what a reduction costs in right answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import JSON_OPTION, note, print_json, progress_bar, quiet_libraries, words
from framefusion.cli.opening import check_run, open_answers, open_checkpoint, read_precision
from framefusion.cli.options import (
    AdapterOption,
    AnswersOption,
    AttentionOption,
    CalibrateOption,
    DeviceOption,
    DtypeOption,
    KindsOption,
    ModelOption,
    NewTokensOption,
    QuantizeOption,
    RecommendedOption,
    ReducerOption,
    SamplesOption,
    SeedOption,
    SettingsOption,
    TowerOption,
    TrustOption,
    behind_tower,
    build_listed,
    build_recommended,
    check_questions,
    method_of,
    with_own_budget,
    with_reducer,
)
from framefusion.core.destination import check_apart
from framefusion.core.errors import OptionError
from framefusion.core.options import Count, Option, Share, checked, options_of
from framefusion.core.registry import BUDGETS
from framefusion.inference.tiny import NAME as TINY
from framefusion.inference.tiny import is_embedded

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.answers import Yardstick
    from framefusion.evaluation.records import Records
    from framefusion.evaluation.result import Evaluation
    from framefusion.inference.answer.checkpoint import Checkpoint

DEFAULT_COST = 0.3
FRAMES = 32
CONTROLS = "random,uniform,frame_sample"
TINY_BATCH = 8

EqualCostOption = Annotated[
    float | None,
    typer.Option(
        "--cost",
        help="Equivalent cost of the method and of every control: share of the visual tokens read per layer.  "
        "\\[default: 0.3]",
    ),
]
# What it does is what `--cost` says; elsewhere the word means the method's own budget.
OldCostOption = Annotated[float | None, typer.Option("--keep", hidden=True)]
SweepOption = Annotated[
    str | None, typer.Option(metavar="C,C,…", help="Several equivalent costs, e.g. 0.7,0.5,0.3,0.15.")
]
CompareOption = Annotated[
    str,
    typer.Option(
        metavar="METHOD,…", help="Controls at the same cost, METHOD[:key=value], several joined by +; `none` for none."
    ),
]

DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.jsonl",
        help="Ask these questions instead, a file of JSON lines (video, question, answer, kind, choices) or a folder "
        "with one.",
        show_default=False,
    ),
]
NoChoicesOption = Annotated[
    bool,
    typer.Option(
        "--no-choices",
        help="Do not write the possible answers behind the question; the embedded model never gets them.",
        show_default=False,
    ),
]
ClipFramesOption = Annotated[
    int,
    typer.Option(
        "--frames",
        help="Frames of each clip, a multiple of 32: the same scenes, filmed faster. With --data: frames to read.",
    ),
]
BatchOption = Annotated[
    int | None, typer.Option(help="Questions answered together.  \\[default: 8 for the embedded model, else 1]")
]

PartOption = Annotated[
    str | None, typer.Option(metavar="K/N", help="Only the K-th of N parts, for N processes with the same --out.")
]


ShareOption = Annotated[
    bool, typer.Option("--share-tower", help="Encode a clip once for all methods; times are then without the tower.")
]

AllOption = Annotated[
    bool, typer.Option("--all", help="Every registered method in one table; the vision tower runs once for all.")
]


def evaluate(
    model: ModelOption = TINY,
    method: RecommendedOption = None,
    reducer: ReducerOption = None,
    every: AllOption = False,
    cost: EqualCostOption = None,
    keep: OldCostOption = None,
    sweep: SweepOption = None,
    compare: CompareOption = CONTROLS,
    settings: SettingsOption = None,
    tower: TowerOption = None,
    calibrate: CalibrateOption = False,
    samples: SamplesOption = 240,
    seed: SeedOption = 0,
    part: PartOption = None,
    kinds: KindsOption = None,
    frames: ClipFramesOption = FRAMES,
    data: DataOption = None,
    no_choices: NoChoicesOption = False,
    batch: BatchOption = None,
    max_new_tokens: NewTokensOption = 12,
    share_tower: ShareOption = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    quantize: QuantizeOption = None,
    attention: AttentionOption = None,
    adapter: AdapterOption = None,
    out: AnswersOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy against cost.")] = None,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Accuracy dense and reduced on questions with known answers, beside controls of the same cost.

    A run that was stopped goes on where it was: the same command asks no question twice.

    Example: framefusion evaluate --sweep 0.7,0.5,0.3,0.15 --plot cost.png
    """
    _check_all(every, method, settings, tower)
    chosen = build_recommended(method_of(method, reducer), None, settings or [], attention)
    chosen = with_reducer(chosen, reducer, settings or [], model)
    chosen, keep = with_own_budget(chosen, keep)
    controls = [with_reducer(one, None, [], model) for one in _controls(compare, None if every or tower else chosen)]
    costs = _costs(_cost(cost, keep), sweep, chosen, settings or [])
    check_run(dtype, max_new_tokens, device)
    precision = read_precision(quantize, attention)
    size = _batch(batch, model)
    check_questions(samples, seed, words(kinds), share := _part(part), ground := _ground(frames, data))
    asked = {"samples": samples, "seed": seed, "part": share, "kinds": words(kinds), "yardstick": ground}
    chosen = behind_tower(tower, chosen)
    answers = _checked(plot, out)
    quiet_libraries()
    checkpoint = open_checkpoint(model, dtype, device, trust_remote_code, precision, attention, adapter)
    asked |= {"calibrated": calibrate, "records": answers}
    asking = (size, max_new_tokens, False if no_choices else None, share_tower)
    found = _found(every, checkpoint, chosen, costs, controls, asking, **asked)
    _show(found, plot, json, every)


def _found(
    every: bool,
    checkpoint: Checkpoint,
    chosen: Method,
    costs: list[float] | None,
    controls: list[Method],
    asking: tuple[int, int, bool | None, bool],
    **asked: Any,
) -> Evaluation:
    """asking: the fields of `Asking`. asked: which questions."""
    from framefusion.evaluation import Asking, evaluate, evaluate_all

    run = partial(evaluate_all, checkpoint, None) if every else partial(evaluate, checkpoint, chosen)
    with progress_bar() as watch:
        return run(costs, controls=controls, asking=Asking(*asking), watch=watch, **asked)


def _check_all(every: bool, method: str | None, settings: list[str] | None, tower: str | None) -> None:
    """Raises OptionError where one method is configured and all are asked for."""
    options = {"--method": method, "--set": settings, "--tower": tower}
    given = next((name for name, value in options.items() if value not in (None, [])), None)
    if every and given is not None:
        raise OptionError(
            f"--all and {given} exclude each other",
            "--all takes every registered method with its default options",
            f"leave out {given}, or compare some methods with --compare METHOD:key=value,…",
        )


def _ground(frames: int, data: Path | None) -> Yardstick:
    """Where questions come from: drawn scenes, or a list. Raises OptionError."""
    if data is not None:
        from framefusion.evaluation.listed_questions import ListedQuestions

        return ListedQuestions(data, frames)
    from framefusion.evaluation.synthetic_questions import FilmedFaster

    return FilmedFaster(frames)


def _checked(plot: Path | None, out: Path | None) -> Records | None:
    """The file of answers, where the figure can be drawn as well."""
    if plot is not None:
        from framefusion.evaluation.figure import check_figure

        check_figure(plot)
        check_apart({"--out": out, "--plot": plot})
    return open_answers(out)


def _show(found: Evaluation, plot: Path | None, as_json: bool, every: bool) -> None:
    if plot is not None:
        from framefusion.evaluation.plot import draw
        from framefusion.evaluation.plot_overview import draw_overview

        (draw_overview if every else draw)(found, plot)
        note(f"drawn in {plot}")
    if as_json:
        print_json(found.to_dict())
        return
    from framefusion.cli.evaluation_table import show
    from framefusion.cli.overview_table import show_overview

    (show_overview if every else show)(found)
    for message in found.notes:
        note(message)
    note(f"answers are kept in {found.records}")


def _controls(text: str, method: Method | None) -> list[Method]:
    """Methods of a list such as `random,fastv:layer=3`; the method itself, if it is one, is not its own by default."""
    if text.strip() == "none":
        return []
    found = build_listed(text)
    return [control for control in found if text != CONTROLS or type(control) is not type(method)]


def _cost(cost: float | None, keep: float | None) -> float | None:
    """The equivalent cost that `--cost` gives, or `--keep`, its name before."""
    if keep is None:
        return cost
    if cost is not None:
        raise OptionError("--cost and --keep both set the equivalent cost", hint="give --cost alone")
    checked("--keep", Share, keep, "0.3 reads 30 % of the tokens")
    note("--keep is called --cost here: an equivalent cost is matched, not the method's own budget (--set keep=...)")
    return keep


def _costs(cost: float | None, sweep: str | None, method: Method, settings: Sequence[str]) -> list[float] | None:
    """Equivalent costs; None where the method's own budget is set by hand or by its training, or it has none."""
    fixed = not {method.facts.budget, *BUDGETS}.isdisjoint(setting.partition("=")[0] for setting in settings)
    given = [name for name, value in (("--cost", cost), ("--sweep", sweep)) if value is not None]
    if len(given) + fixed > 1:
        both = [*given, *([f"--set {method.facts.budget}"] if fixed else [])]
        raise OptionError(f"{' and '.join(both)} both set the budget", hint="give one of them")
    if not given and getattr(method, "trained", False):
        return None
    # A method without sinks has the budget of the one it was made of.
    if fixed or method.facts.budget not in options_of(type(getattr(method, "method", method))):
        return None
    if sweep is not None:
        return list(Option.of("--sweep", tuple[Share, ...], hint="write --sweep 0.7,0.5,0.3,0.15").read(sweep))
    return [checked("--cost", Share, DEFAULT_COST if cost is None else cost, "0.3 reads 30 % of the tokens")]


def _batch(batch: int | None, model: str) -> int:
    given: int | None = checked("--batch", Count | None, batch, "leave it out for the default")
    return given or (TINY_BATCH if is_embedded(model) else 1)


def _part(text: str | None) -> tuple[int, int]:
    try:
        number, parts = map(int, ("1/1" if text is None else text).split("/"))
    except ValueError as error:
        raise OptionError(f"--part {text} is no part", hint="write --part 2/4 for the second of four parts") from error
    return number, parts
