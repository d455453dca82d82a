"""Options that several commands share, and the way from words on the command line to a method."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import note, words
from framefusion.core.errors import OptionError
from framefusion.core.method import PROPORTIONAL, Method
from framefusion.core.options import Option, options_of
from framefusion.core.registry import BUDGETS, RECOMMENDED, configure, method, method_at, methods, read
from framefusion.core.stage import PixelStage, VisionStage
from framefusion.methods.chain import Chain

if TYPE_CHECKING:
    from framefusion.evaluation.answers import Yardstick

# A setting of every method that goes by attention.
SINKS = "sinks"

ModelOption = Annotated[str, typer.Option(help="Hub id or path of a checkpoint.")]
MethodOption = Annotated[str, typer.Option(help="A method, see `framefusion methods`, or package.module:Class.")]
# The method that the evidence puts first.
RecommendedOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help=f"A method, see `framefusion methods`, or package.module:Class.  \\[default: {RECOMMENDED}]",
        show_default=False,
    ),
]
# Which of them a budget is depends on the method, so either word stands for it.
CostOption = Annotated[
    float,
    typer.Option(
        "--cost",
        "--keep",
        help="The method's own budget, (0, 1]: FrameFusion's cost; of most others the share of tokens they keep.",
    ),
]
# In front of `--method`, which then sees what the tower made.
TowerOption = Annotated[
    str | None,
    typer.Option(
        "--tower",
        metavar="METHOD[:KEY=VALUE]",
        help="A method for the vision tower in front of --method, e.g. pixel_dedup:threshold=0.25.",
        show_default=False,
    ),
]
ReducerOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Weights of a trained method, from `framefusion train`.",
        show_default=False,
    ),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other option of the method.")
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="An adapter of the model that PEFT wrote, e.g. by `framefusion train --lora`.",
        show_default=False,
    ),
]
FramesOption = Annotated[int, typer.Option(help="Frames to read, evenly over each clip.")]
FpsOption = Annotated[float | None, typer.Option(help="Frames per second instead, at most --frames of them.")]
NewTokensOption = Annotated[int, typer.Option(help="Length of an answer.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, or auto to spread the model.")]
TrustOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run the code that a checkpoint brings along.")]

QuantizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="PART=WIDTH,…", help="Bits, e.g. weights=int4,activations=int8,kv=int4; sim4 only simulates int4."
    ),
]
AttentionOption = Annotated[
    str | None,
    typer.Option(help="sdpa, eager, sage (8-bit kernels on an NVIDIA GPU) or sage-emulated (their arithmetic)."),
]

LimitOption = Annotated[int | None, typer.Option(help="Questions per task, the first ones.")]
GenKwargsOption = Annotated[str | None, typer.Option(help="Generation options instead of the task's.")]
IncludePathOption = Annotated[Path | None, typer.Option(help="Folder with tasks of your own.", exists=True)]

CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Compute the similarity threshold for this model first.")
]
SamplesOption = Annotated[int, typer.Option(help="Questions, all kinds in turn.")]
SeedOption = Annotated[int, typer.Option(help="Which questions; none of them was trained on.")]
KindsOption = Annotated[str | None, typer.Option(metavar="KIND,…", help="Only these kinds of questions.")]
AnswersOption = Annotated[
    Path | None, typer.Option(metavar="FILE.jsonl", help="Where answers are kept.  \\[default: the user's cache]")
]


def check_questions(
    samples: int,
    seed: int,
    kinds: list[str] | None,
    part: tuple[int, int] = (1, 1),
    yardstick: Yardstick | None = None,
) -> None:
    """Raises OptionError for what the yardstick, by default the synthetic one, cannot ask; before a model is loaded."""
    from framefusion.evaluation.comparison import check_samples, chosen_kinds, default_yardstick

    ground = yardstick or default_yardstick()
    chosen = chosen_kinds(kinds, ground)
    check_samples(samples, seed, chosen, ground, part)
    ground.samples(samples, seed, chosen)  # a list that is too short says so


def build_method(name: str, budget: float | None, settings: list[str]) -> Method:
    """The method `name` with its budget option set to `budget` and `key=value` settings on top, the budget among them.

    name: of a registered method, or `package.module:Class`, which is also looked for in the working directory. The
    setting `sinks` makes it one `WithoutSinks`.

    Raises UnknownNameError or PluginError for the name and OptionError for a setting the method does not have, or a
    value it refuses.
    """
    cls, words = _method_here(name) if ":" in name else method(name), settings_from(settings)
    sinks = None if SINKS in options_of(cls) else words.pop(SINKS, None)
    given = read(cls, words)
    sets_budget = not {cls.facts.budget, *BUDGETS}.isdisjoint(given)
    found = configure(cls, given if budget is None or sets_budget else {cls.facts.budget: budget, **given})
    return found if sinks is None else _without_sinks(found, sinks)


def _without_sinks(found: Method, weight: str) -> Method:
    from framefusion.methods.without_sinks import Weight, WithoutSinks

    return WithoutSinks(found, Option.of(SINKS, Weight, hint="0.5 is a beginning").read(weight))


def method_of(name: str | None, reducer: Path | None) -> str | None:
    """The name of a method: the one given, or that of the weights in the folder `reducer`. Raises CheckpointError."""
    from framefusion.inference.reducer import load_reducer

    return name if name is not None or reducer is None else load_reducer(reducer).facts.name


def with_reducer(
    chosen: Method, reducer: Path | None, settings: list[str], model: str, budget: float | None = None
) -> Method:
    """`chosen` with the weights in the folder `reducer`; without one, a trained method gets those shipped for `model`.

    Options are those it was saved with, but for `settings` and `budget`. Raises OptionError and CheckpointError.
    """
    from framefusion.core.learned import LearnedMethod
    from framefusion.inference.reducer import load_reducer, reducer_at
    from framefusion.inference.tiny import is_embedded

    name = f"framefusion/{chosen.facts.name}"
    shipped = isinstance(chosen, LearnedMethod) and is_embedded(model) and reducer_at(name).is_dir()
    if reducer is None and not shipped:
        return chosen
    found = load_reducer(name if reducer is None else reducer)
    if type(found) is not type(chosen):
        raise OptionError(
            f"--reducer {reducer} holds {found.facts.title}, not {chosen.facts.title}",
            hint=f"write --method {found.facts.name}",
        )
    given = {found.facts.budget if key in BUDGETS else key: value for key, value in _read(found, settings).items()}
    return replace(found, **({} if budget is None else {found.facts.budget: budget}) | given)


def with_own_budget(chosen: Method, keep: float | None) -> tuple[Method, float | None]:
    """A trained method at `keep` of its own budget where that is a whole number, which leaves no equivalent cost.

    A number of 1 stays the whole of the tokens where the budget may be a share. Raises OptionError.
    """
    if keep is None or not getattr(chosen, "trained", False) or not keep.is_integer():
        return chosen, keep
    if keep == 1 and isinstance(getattr(chosen, chosen.facts.budget), float):
        return chosen, keep
    return chosen.with_budget(int(keep)), None


def _read(method: Method, settings: list[str]) -> dict[str, Any]:
    return read(type(method), settings_from(settings))


def build_listed(text: str) -> list[Method]:
    """Methods of a list such as `random,fastv:layer=3,package.module:Class:keep=0.5,frame_sample:keep=8+uniform`.

    With + between them they are a chain, whose budget is that of the last one. Raises as `build_method` does.
    """
    chains = ([_listed(part) for part in word.split("+")] for word in words(text) or [])
    return [members[0] if len(members) == 1 else Chain(*members) for members in chains]


def _listed(word: str) -> Method:
    name, *settings = word.split(":")
    if settings and name not in methods and "=" not in settings[0]:
        name = f"{name}:{settings.pop(0)}"
    return build_method(name, None, settings)


def build_recommended(name: str | None, budget: float | None, settings: list[str], attention: str | None) -> Method:
    """What `build_method` makes of `name`, or without one of the recommended method.

    Its merged tokens then count once over an `attention` that cannot weigh them.
    """
    unweighed = name is None and attention == "sage" and PROPORTIONAL not in settings_from(settings)
    if unweighed:
        note("sage attention cannot weigh merged tokens, so each counts once")
    found = build_method(RECOMMENDED if name is None else name, budget, settings)
    return found.with_weight(False) if unweighed else found


def behind_tower(tower: str | None, chosen: Method) -> Method:
    """`chosen`, behind the method that `--tower` names, if it names one.

    Raises OptionError for one that leaves the vision tower as it is, and as `build_method` does.
    """
    if tower is None:
        return chosen
    first = _listed(tower)
    if not any(isinstance(stage, PixelStage | VisionStage) for stage in first.stages()):
        raise OptionError(
            f"--tower {tower}: {first.facts.title} leaves the vision tower as it is",
            f"it acts {first.facts.stage}",
            "take one that acts inside the tower or in front of it, such as pixel_dedup, and others as --method",
        )
    return Chain(first, chosen)


def _method_here(reference: str) -> type[Method]:
    """`package.module:Class`. The working directory comes last, so no file in it hides an installed package."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return method_at(reference)


def settings_from(given: list[str], flag: str = "--set") -> dict[str, str]:
    """`key=value` words of the option `flag` as a mapping. Raises OptionError."""
    options: dict[str, str] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals:
            raise OptionError(f"`{flag} {word}` is no setting", hint=f"write {flag} key=value")
        options[key] = value
    return options
