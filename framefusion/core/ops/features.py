"""Features of the vision tower, as modules that were made for one width read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framefusion.core.errors import UnsupportedPointError

if TYPE_CHECKING:
    from torch import Tensor


def of_width(features: Tensor, width: int) -> Tensor:
    """(N, C) features as (N, `width`): where a token's are those of several patches side by side, their mean.

    Raises UnsupportedPointError where C is no multiple of `width`.
    """
    if features.shape[-1] % width:
        raise UnsupportedPointError(
            f"features of the vision tower are {features.shape[-1]} wide, the reducer reads {width}",
            "what enters this model's projector is not made of states of its tower",
            "take a reducer that reads embeddings, such as vqtoken",
        )
    return features.unflatten(-1, (-1, width)).mean(-2)
