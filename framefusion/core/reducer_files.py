"""The folder of a learned reducer: what is in it, and how it is written.

`reducer_config.json` names the method, its options and the shape of the model; `reducer_model.safetensors` holds the
numbers, as they are, in half precision, or rows of matrices as eight bits and a scale. Nothing in it is code, and
nothing is pickled.
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
SCALE, HIGHEST = ".row_scale", 127
WIDTHS = (32, 16, 8)
"""Bits of a number: 32 leaves it as it is."""


def write(path: str | Path, state: Mapping[str, Tensor], configuration: Mapping[str, Any], bits: int = 32) -> None:
    """Write a reducer into the folder `path`, weights first.

    state: of its module. configuration: what `reducer_config.json` says beside the format. bits: one of WIDTHS. Raises
    OptionError.
    """
    from safetensors.torch import save

    folder = Path(path)
    check_folder(folder, "the path")
    files = {
        WEIGHTS: save(packed(state, bits), {"format": "pt"}),
        CONFIG: (json.dumps({"format": FORMAT, **configuration}, indent=2) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)
    except OSError as error:
        raise OptionError(f"cannot write into {folder}", reason(error), "give a folder you may write into") from error


def packed(state: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """`state` as it is written: with 16 bits in half precision, with 8 each row of a matrix times a scale."""
    import torch

    found: dict[str, Tensor] = {}
    for name, value in state.items():
        own = value.detach().cpu().contiguous()
        if bits == 32 or not own.is_floating_point():
            found[name] = own
        elif bits == 16 or own.ndim < 2:
            found[name] = own.to(torch.float16)
        else:
            rows = own.to(torch.float32).flatten(1)
            # Rounded first, so that rows are divided by what they are multiplied with later.
            scale = (rows.abs().amax(1) / HIGHEST).clamp(min=torch.finfo(torch.float16).tiny).to(torch.float16)
            whole = (rows / scale[:, None].float()).round().clamp(-HIGHEST, HIGHEST)
            found[name], found[name + SCALE] = whole.to(torch.int8).view(own.shape), scale
    return found


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was packed, in float32 where it was narrowed; other numbers as they are."""
    import torch

    found: dict[str, Tensor] = {}
    for name, value in stored.items():
        scale = stored.get(name + SCALE)
        if scale is not None:
            found[name] = (value.flatten(1).float() * scale.float()[:, None]).view(value.shape)
        elif not name.endswith(SCALE):
            found[name] = value.float() if value.dtype == torch.float16 else value
    return found
