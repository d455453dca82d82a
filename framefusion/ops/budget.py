"""How many tokens the remaining layers may read so that a whole prompt costs what was asked."""

from __future__ import annotations

from collections.abc import Sequence


def removable_share(removed: Sequence[float], cost: float, layers: int) -> float:
    """Share of the current tokens to remove so that the mean over all layers meets `cost` (FrameFusion, section 3.3).

    removed: share of tokens taken out at each call so far; after call i its survivors are what layer i reads.
    cost: mean fraction of the visual tokens that a layer reads, (0, 1].
    layers: decoder layers of the model.
    Returns a share in [0, 1]; 1 when the layers that ran have already spent more than the budget.
    """
    left, spent = 1.0, 0.0
    for share in removed:
        left *= 1.0 - share
        spent += left
    open_layers = layers - len(removed)
    if open_layers <= 0 or left <= 0.0:
        return 0.0
    return min(1.0, max(0.0, 1.0 - (layers * cost - spent) / (open_layers * left)))
