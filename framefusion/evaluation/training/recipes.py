"""What the reducers of the embedded model are trained with, unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from framefusion.core.registry import BUDGETS, SHORT, method
from framefusion.inference.tiny import is_embedded


@dataclass(frozen=True)
class Recipe:
    """options: of the method, as words. settings: of the training, by the names in `Settings`."""

    options: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def words(self, name: str, budget: float | None, given: Sequence[str]) -> list[str]:
        """Settings `key=value` of the method `name`: those `given`, behind those of the recipe.

        budget: given otherwise, if it is. A budget that is given replaces that of the recipe under all of its names.
        """
        keys = {word.partition("=")[0] for word in given}
        budgets = {*BUDGETS, method(name).facts.budget} if self.options else set()
        own = self.options
        if budget is not None or keys & budgets:
            own = {key: value for key, value in own.items() if key not in budgets}
        return [*(f"{key}={value}" for key, value in own.items()), *given]

    def completed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the training: those `given`, where they are not None, else those of the recipe."""
        return {**self.settings, **{name: value for name, value in given.items() if value is not None}}


RECIPES: Mapping[str, Recipe] = {
    "atp_llava": Recipe(
        {"keep": "0.25", "layers": "1,2,3", "temperature": "50"},
        {"steps": 320, "batch": 4, "rate": 0.002, "lora": 8, "lora_on": "all", "questions": 8, "bits": 8},
    ),
    "llava_mini": Recipe(
        {"side": "1", "together": "true", "frames": "4", "prefusion": "4"},
        {"steps": 1300, "batch": 8, "rate": 0.0008, "lora": 8, "questions": 8, "bits": 8},
    ),
    "vqtoken": Recipe(
        {"keep": "8", "places": "16", "spans": "16", "codes": "64", "feedforward": "512"},
        {"steps": 2400, "batch": 8, "rate": 0.002, "lora": 8, "lora_on": "all", "questions": 8, "bits": 8},
    ),
}


def recipe_for(name: str, model: str) -> Recipe:
    """The recipe of the method `name` for the embedded model; an empty one for any other model or method."""
    return RECIPES.get(SHORT.get(name, name), Recipe()) if is_embedded(model) else Recipe()
