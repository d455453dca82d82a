"""One cell of a comparison: everything that may change an answer, and a key that changes with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefusion.core.method import Method

DENSE = "dense"


@dataclass(frozen=True)
class Cell:
    """One way to answer questions.

    model: name of the checkpoint. weights: fingerprint of its weights, configuration and processor. method: name, or
    "dense". options: of the method, all of them, filled in for the model. setup: how the model is loaded and asked
    (dtype, device, length of the answer, and whatever else a study varies). versions: of the code that answers.
    """

    model: str
    weights: str
    method: str = DENSE
    options: Mapping[str, Any] = field(default_factory=dict)
    setup: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits, equal for equal cells, also in another process."""
        text = json.dumps(self.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.loads(json.dumps(parts, default=str))


def options_of(method: Method | None) -> dict[str, Any]:
    """Every option of a method with its value."""
    return {} if method is None else method.options()


def name_of(method: Method | None) -> str:
    return DENSE if method is None else method.facts.name
