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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

CONFIG, WEIGHTS, CARD = "reducer_config.json", "reducer_model.safetensors", "README.md"
FORMAT = 1


def write(path: str | Path, state: Mapping[str, Tensor], configuration: Mapping[str, Any]) -> None:
    """Write a reducer into the folder `path`, weights first.

    state: of its module. configuration: what `reducer_config.json` says beside the format. Raises OptionError.
    """
    from safetensors.torch import save

    folder = Path(path)
    check_folder(folder, "the path")
    files = {
        WEIGHTS: save({name: value.detach().cpu().contiguous() for name, value in state.items()}, {"format": "pt"}),
        CONFIG: (json.dumps({"format": FORMAT, **configuration}, indent=2) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)
    except OSError as error:
        raise OptionError(f"cannot write into {folder}", reason(error), "give a folder you may write into") from error
