"""The sizes of a model that weights of a reducer have to fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ModelShape:
    """What a learned reducer was made for, and what a model is.

    family: `model_type` of its configuration. layers: of the decoder. hidden: width D of its states. vision: width of
    the states of the vision tower, None where the configuration names none.
    """

    family: str
    layers: int
    hidden: int
    vision: int | None = None

    def differences(self, other: ModelShape) -> list[str]:
        """In words, what `other` has otherwise."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name} {theirs[name]}, not {value}" for name, value in mine.items() if theirs[name] != value]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
