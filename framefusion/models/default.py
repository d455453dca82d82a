"""The rule of families nobody names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.models.layout_rules import by_grids, by_runs
from framefusion.models.sized import by_sizes

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout


def by_default(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """By the grids or sizes that come with the prompt, else by runs."""
    return by_grids(config, inputs, ids) or by_sizes(config, inputs, ids) or by_runs(config, inputs, ids)
