"""The folder of a learned reducer: what is in it, and how it is written.

`reducer_config.json` names the method, its options and the shape of the model; `reducer_model.safetensors` holds the
numbers. Nothing in it is code, and nothing is pickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core.destination import check_folder, reason, replacing
from framefusion.core.errors import OptionError
from framefusion.core.method import Method

if TYPE_CHECKING:
    from framefusion.core.learned import LearnedMethod

CONFIG, WEIGHTS, CARD = "reducer_config.json", "reducer_model.safetensors", "README.md"
FORMAT = 1


def write(method: LearnedMethod, path: str | Path) -> None:
    """Write `method` into the folder `path`, weights first. Raises OptionError."""
    from safetensors.torch import save

    if method.weights is None:
        raise OptionError(f"{method.facts.title} has no weights to save", hint="train or load it first")
    folder = Path(path)
    check_folder(folder, "the path")
    state = {name: value.detach().cpu().contiguous() for name, value in method.weights.module.state_dict().items()}
    files = {
        WEIGHTS: save(state, {"format": "pt"}),
        CONFIG: (json.dumps(configuration(method), indent=2) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)
    except OSError as error:
        raise OptionError(f"cannot write into {folder}", reason(error), "give a folder you may write into") from error


def configuration(method: LearnedMethod) -> dict[str, Any]:
    """What `reducer_config.json` says."""
    assert method.weights is not None
    shape = method.weights.shape
    return {
        "format": FORMAT,
        "method": method.facts.name,
        "options": Method.options(method),
        "model": shape.to_dict() if method.of_layers else shape.sizes(),
    }
