"""`framefusion train`: a reducer for one model, or the model's adapters under a reduction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from framefusion.cli.console import (
    JSON_OPTION,
    note,
    out,
    print_json,
    progress_bar,
    quiet_libraries,
    say,
)
from framefusion.cli.opening import check_run, open_checkpoint
from framefusion.cli.options import DeviceOption, DtypeOption, ModelOption, SettingsOption, TrustOption, build_method
from framefusion.core.destination import check_folder
from framefusion.core.errors import MissingPackageError
from framefusion.core.installed import versions_of
from framefusion.core.options import Count, checked
from framefusion.core.text import cell
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.evaluation.training import Training

FRAMES = 32
BudgetOption = Annotated[
    float | None, typer.Option("--keep", "--cost", help="Budget of the method that is trained for.")
]
DataOption = Annotated[
    str, typer.Option(help="`synthetic`, or a file of JSON lines (video, question, answer) or a folder with one.")
]
OWN = "; for the embedded model that of its own training"
StepsOption = Annotated[int | None, typer.Option(help=f"Steps of the optimiser.  \\[default: 120{OWN}]")]
BatchOption = Annotated[int | None, typer.Option(help=f"Examples of a step.  \\[default: 4{OWN}]")]
RateOption = Annotated[float | None, typer.Option(help=f"Highest learning rate.  \\[default: 0.001{OWN}]")]
BitsOption = Annotated[
    int | None, typer.Option(help=f"Of a number as it is written: 32, 16 or 8.  \\[default: 32{OWN}]")
]
QuestionsOption = Annotated[
    int | None, typer.Option(help=f"About each drawn clip, one in each of as many steps.  \\[default: 1{OWN}]")
]
LoraOption = Annotated[
    int | None,
    typer.Option(
        metavar="RANK",
        help=f"Adapt the model too, by PEFT; then any method will do.  \\[default: 0{OWN}]",
    ),
]
LoraOnOption = Annotated[
    str | None,
    typer.Option(
        "--lora-on",
        metavar="PART",
        help=f"Adapt its `attention`, or `all` linear layers of its decoder.  \\[default: attention{OWN}]",
    ),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the reducer goes.", show_default=False)]


def train(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="A trained method of `framefusion methods`, e.g. atp_llava.")
    ],
    to: OutOption,
    model: ModelOption = TINY,
    data: DataOption = "synthetic",
    keep: BudgetOption = None,
    settings: SettingsOption = None,
    lora: LoraOption = None,
    lora_on: LoraOnOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    rate: RateOption = None,
    questions: QuestionsOption = None,
    bits: BitsOption = None,
    seed: Annotated[int, typer.Option(help="Of weights and of drawn examples.")] = 1,
    frames: Annotated[int, typer.Option(help="Frames to read of each video.")] = FRAMES,
    score: Annotated[int, typer.Option(help="Questions of the card; 0 for none.")] = 120,
    score_seed: Annotated[int, typer.Option("--score-seed", help="Which these are.")] = 2024,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Train a reducer for a model that stays frozen, and write it, with a card of how it scores, into a folder.

    A run that was stopped goes on where it was: the same command ends with the same weights.

    Example: framefusion train atp_llava --keep 0.25 --out atp
    """
    from framefusion.evaluation.training.recipes import recipe_for
    from framefusion.evaluation.training.settings import Settings, check_learns

    recipe = recipe_for(method, model)
    chosen = build_method(method, keep, recipe.words(method, keep, settings or []))
    given: dict[str, Any] = {"steps": steps, "batch": batch, "rate": rate, "questions": questions, "bits": bits}
    given |= {"lora": lora, "lora_on": lora_on}
    told = Settings(seed=seed, score=score, score_seed=score_seed, **recipe.completed(given))
    checked("--frames", Count, frames)
    check_learns(chosen, told.lora)
    check_run(dtype, 1, device)
    check_folder(to, "--out")
    _check_packages(told.lora)
    quiet_libraries()
    from framefusion.evaluation.training import read_course
    from framefusion.evaluation.training import train as run

    course = read_course(data, told.steps * told.batch, seed, told.questions, told.batch)
    checkpoint = open_checkpoint(model, dtype, device, trust_remote_code)
    with progress_bar(f"the training so far is kept in {to}") as watch:
        done = run(checkpoint, chosen, course, to, told, frames, watch)
    _show(done, json)


def _check_packages(lora: int) -> None:
    """Raises MissingPackageError before anything slow starts."""
    for name, wanted in (("accelerate", True), ("peft", bool(lora))):
        if wanted and not versions_of(name):
            raise MissingPackageError(
                f"framefusion train needs the package {name}", hint=f"pip install 'framefusion[{name}]'"
            )


def _show(done: Training, as_json: bool) -> None:
    if as_json:
        print_json(done.to_dict())
        return
    say(f"{done.folder}: {done.trainable} numbers trained")
    rows = {name: row for name, row in done.scores.items() if isinstance(row, dict)}
    if rows:
        table = Table("", "right", "cost")
        for name, row in rows.items():
            table.add_row(cell(name), f"{row['accuracy']:.1%}", f"{row['cost']:.3f}")
        out.print(table)
    note(f"the card is {done.folder / 'README.md'}")
