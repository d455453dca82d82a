"""What a training is told, and whether a folder holds the same training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from framefusion.core.destination import replacing
from framefusion.core.errors import OptionError
from framefusion.core.learned import LearnedMethod
from framefusion.core.options import Count, Interval, OneOf, Seed, settle
from framefusion.core.reducer_files import WIDTHS

if TYPE_CHECKING:
    from framefusion.core.method import Method

SETTINGS = "training.json"
Rate = Annotated[float, Interval("(0, 10]")]
OrNone = Annotated[int, Interval("[0, inf)")]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """steps: of the optimiser. batch: examples of each. rate: its highest learning rate. seed: of weights and examples.
    questions: about each drawn clip, one in each of so many steps.

    lora: rank of the model's adapters, 0 for none. lora_on: its attention, or all linear layers of its decoder.
    score: questions of the card, 0 for none. score_seed: which these are. save_steps: after which the state is saved.
    bits: of a number as it is written.
    """

    steps: Count = 120
    batch: Count = 4
    rate: Rate = 0.001
    seed: Seed = 1
    lora: OrNone = 0
    lora_on: Annotated[str, OneOf("attention", "all")] = "attention"
    score: OrNone = 120
    score_seed: Seed = 2024
    save_steps: Count = 20
    questions: Count = 1
    bits: Annotated[int, OneOf(*WIDTHS)] = 32

    def __post_init__(self) -> None:
        settle(self)


def check_learns(method: Method, lora: int) -> None:
    """Raises OptionError for a method with nothing to learn around a model without adapters."""
    if not isinstance(method, LearnedMethod) and not lora:
        raise OptionError(
            f"{method.facts.title} has nothing to learn",
            "it has no weights",
            "add --lora 8 to adapt the model to it, or train a method that `framefusion methods` calls trained",
        )


def claim(folder: Path, settings: Settings, what: dict[str, Any], option: str = "--out") -> None:
    """Make `folder` the place of this training. what: method, options, model and data. option: names the folder.

    Raises OptionError where the folder holds another training, or something else.
    """
    wanted = json.loads(json.dumps({**what, **asdict(settings)}))
    file = folder / SETTINGS
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _foreign(folder, f"{SETTINGS} cannot be read", option) from error
        if found != wanted:
            names = sorted(name for name in wanted if not isinstance(found, dict) or found.get(name) != wanted[name])
            raise _foreign(folder, f"it was begun with other settings: {', '.join(names) or 'others'}", option)
        return
    if folder.exists() and any(folder.iterdir()):
        raise _foreign(folder, "it holds files, but no training", option)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as out:
        out.write((json.dumps(wanted, indent=2) + "\n").encode())


def _foreign(folder: Path, why: str, option: str) -> OptionError:
    return OptionError(f"cannot train into {folder}", why, f"give {option} a new folder, or the same command as before")
