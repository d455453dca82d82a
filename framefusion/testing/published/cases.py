"""One recorded case of a published function: its options, its tensors, and the signals a method sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import FrameFusionError
from framefusion.core.layout import Geometry
from framefusion.core.method import VisionSignals, before
from framefusion.testing.signals import make_signals

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Signals

LATE = before(2)
"""Some point inside the decoder."""


@dataclass(frozen=True)
class Case:
    """tensors: inputs and outputs by name. notes: what the index says about them, the most particular first."""

    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def given(self, *names: str) -> dict[str, Any]:
        """The options `names`."""
        return {name: self.options[name] for name in names}

    def picture(self) -> Geometry:
        """All tokens as one picture."""
        return self.clip(1)

    def clip(self, frames: int | None = None) -> Geometry:
        """All tokens as a clip. Frames have the first grid HxW in the notes that fits, and else are square."""
        count = self._tokens()
        for rows, columns in self._grids():
            if count % (rows * columns) == 0 and frames in (None, count // (rows * columns)):
                return Geometry.grid(count // (rows * columns), rows, columns)
        if frames is None or count % frames:
            raise FrameFusionError(
                f"the grid of {count} tokens is unknown",
                f"the notes `{'`, `'.join(self.notes)}` name none that fits",
                "write it as HxW in the case's `note`",
            )
        side = round((count // frames) ** 0.5)
        rows = side if side * side == count // frames else 1
        return Geometry.grid(frames, rows, count // frames // rows)

    def signals(self, geometry: Geometry, **given: Any) -> Signals:
        """What a method sees. given: as in `make_signals`; the recorded `hidden` or `features` are the states."""
        states = self.tensors.get("hidden", self.tensors.get("features"))
        hidden = torch.zeros(len(geometry), 1) if states is None else states
        return make_signals(geometry, hidden, LATE, **given)

    def towered(self, geometry: Geometry) -> Signals:
        """The same before layer 0, with the recorded attention as what the tower's class token pays."""
        attention = mean_over_heads(self["attention"])
        vision = VisionSignals(
            "cls", lambda layer, headless: attention, lambda layer: self["keys"], lambda: self["features"]
        )
        return self.signals(geometry, vision=vision)

    def _tokens(self) -> int:
        named = ("hidden", "features", "attention")
        name = next(name for name in named if name in self.tensors)
        return self.tensors[name].shape[-1 if name == "attention" else 0]

    def _grids(self) -> list[tuple[int, int]]:
        found = (re.findall(r"(\d+)x(\d+)", note) for note in self.notes)
        return [(int(rows), int(columns)) for pairs in found for rows, columns in pairs]


def notes_of(case: str, entry: Mapping[str, Any], tensors: str) -> tuple[str, ...]:
    """Remarks on one case: its own, those in brackets that name it, and what is said of all cases."""
    inside = re.findall(r"\((case\d+): ([^)]*)\)", tensors)
    return (
        *([entry["note"]] if "note" in entry else []),
        *(note for name, note in inside if name == case),
        re.sub(r"\(case\d+: [^)]*\)", "", tensors),
    )


def mean_over_heads(attention: Tensor) -> Tensor:
    """(H, N) or (N,) -> (N,)."""
    return attention.mean(0) if attention.ndim == 2 else attention
