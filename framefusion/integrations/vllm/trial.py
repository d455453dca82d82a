"""A decision tried on the sizes of a request before it is accepted: an error in the engine would end every request."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache

import torch

from framefusion.core.errors import OptionError
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.signals import signals_of

WIDTH = 16


def check_decision(recipe: Recipe) -> None:
    """Raises OptionError where the recipe's method cannot decide on an item of its sizes with its options."""
    rule = RULES[recipe.method]
    if rule.tower and recipe.tile_rows:
        raise OptionError(
            f"`{recipe.method}` cannot reduce a picture that is cut into tiles",
            "its tiles are trimmed and resized behind the vision tower, so that scores would belong to other tokens",
            "choose a method without tower scores for pictures",
        )
    if not rule.before_tower and not rule.within:
        _try(json.dumps(asdict(recipe), sort_keys=True))


@lru_cache(maxsize=1024)
def _try(written: str) -> None:
    recipe = Recipe(**json.loads(written))
    geometry = recipe.geometry()
    hidden = torch.randn(len(geometry), WIDTH, generator=torch.Generator().manual_seed(0))
    try:
        recipe.plan(signals_of(hidden, geometry, None))
    except Exception as error:  # whatever a method raises here it would raise in the engine
        raise OptionError(
            f"`{recipe.method}` cannot reduce {recipe.subject} with these options",
            str(error).splitlines()[0] if str(error) else type(error).__name__,
            "change the options, or leave them out",
        ) from error
