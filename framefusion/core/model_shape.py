"""The sizes of a model that weights of a reducer have to fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelShape:
    """What a learned reducer was made for, and what a model is.

    family: `model_type` of its configuration. layers: of the decoder. hidden: width D of its states. vision: width of
    the states of the vision tower, None where the configuration names none. decoder: configuration of its text model as
    JSON, for reducers that are made of layers of its kind; sizes above decide whether a reducer fits.
    """

    family: str
    layers: int
    hidden: int
    vision: int | None = None
    decoder: str = field(default="", repr=False, compare=False)

    def differences(self, other: ModelShape) -> list[str]:
        """In words, what `other` has otherwise."""
        mine, theirs = self.sizes(), other.sizes()
        return [f"{name} {theirs[name]}, not {value}" for name, value in mine.items() if theirs[name] != value]

    def sizes(self) -> dict[str, Any]:
        """All but the decoder's configuration, as plain JSON values."""
        return {name: value for name, value in self.to_dict().items() if name != "decoder"}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
