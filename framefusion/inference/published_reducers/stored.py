"""Weights of a checkpoint under their published names: all compared with what is wanted before any is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framefusion.inference.answer.foreign import AGAIN, reading, refused
from framefusion.inference.answer.headers import weight_files
from framefusion.inference.answer.weight_names import Shape, counted, differences, listed, shapes_in
from framefusion.models.decoder_layers import with_tables

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Tables that older releases saved and newer ones compute.
COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")


@dataclass(frozen=True)
class Stored:
    """The safetensors files of a checkpoint. places: file of each weight. shapes: size of each weight."""

    name: str
    places: Mapping[str, str]
    shapes: Mapping[str, Shape]

    @staticmethod
    def of(name: str, settings: Mapping[str, Any]) -> Stored:
        """Raises CheckpointError where there are none. settings: the checkpoint's config.json."""
        from safetensors import safe_open

        _, files = weight_files(name, settings)
        places: dict[str, str] = {}
        shapes: dict[str, Shape] = {}
        for file, path in files.items():
            with reading(name, file), safe_open(path, framework="pt") as opened:
                here = shapes_in(opened)
            shapes.update(here)
            places.update(dict.fromkeys(here, path))
        if not shapes:
            raise refused(name, "it has no weights in safetensors files", "convert it, or fetch the published files")
        return Stored(name, places, shapes)

    def check(self, wanted: Mapping[str, Shape], optional: Callable[[str], bool] = lambda name: False) -> None:
        """Raises one CheckpointError that names weights which are missing, of another size, or nobody's.

        optional: whether a weight may be missing or there.
        """
        stored = {key: shape for key, shape in self.shapes.items() if key in wanted or not COMPUTED.search(key)}
        wrong = differences(wanted, stored, optional)
        if wrong:
            hint = "the configuration or the weights are those of another model or release; fetch the checkpoint again"
            raise refused(self.name, wrong, hint)

    def read(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """The weights of these names. Raises CheckpointError for numbers that are none."""
        from safetensors import safe_open

        by_file: dict[str, list[str]] = {}
        for key in keys:
            by_file.setdefault(self.places[key], []).append(key)
        found: dict[str, Tensor] = {}
        for path, names in by_file.items():
            with reading(self.name, path), safe_open(path, framework="pt") as opened:
                found |= {key: opened.get_tensor(key) for key in names}
        broken = [key for key, value in found.items() if not bool(value.isfinite().all())]
        if broken:
            raise refused(self.name, f"{counted(broken)} with numbers that are none: {listed(sorted(broken))}", AGAIN)
        return found


def filled(module: nn.Module, stored: Stored, published: Callable[[str], str], dtype: torch.dtype) -> nn.Module:
    """`module`, built on the meta device, with the weights that `stored` holds under the names `published` gives."""
    names = {key: published(key) for key in module.state_dict()}
    found = stored.read(names.values())
    with reading(stored.name, "its reducer"):
        module.load_state_dict({key: found[name].to(dtype) for key, name in names.items()}, assign=True)
        return with_tables(module).requires_grad_(True).eval()


def sizes(module: nn.Module, published: Callable[[str], str]) -> dict[str, Shape]:
    """Size of each weight of `module` under its published name."""
    return {published(key): tuple(value.shape) for key, value in module.state_dict().items()}


def renamed(pairs: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """The function that puts the first prefix that fits in place of another: (here, published) each."""
    known = list(pairs)

    def published(name: str) -> str:
        return next((there + name.removeprefix(here) for here, there in known if name.startswith(here)), name)

    return published
