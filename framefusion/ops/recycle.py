"""Keep the best tokens, and the better ones of the rest as a few cluster means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.ops.density import density_clusters
from framefusion.ops.pick import highest
from framefusion.plan import Plan
from framefusion.stage import join

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 0.3
CLUSTER_SIZE = 10


def recycled(score: Tensor, count: int, hidden: Tensor, size: Tensor) -> Plan:
    """`count` tokens: the best by (N,) score, and centres of clusters of the better 30 % of the rest (SparseVLM).

    hidden: (N, D). size: (N,) originals each token carries. A centre becomes the mean of its cluster; there is one
    cluster for about ten recycled tokens, as far as `count` has room beside the best token.
    """
    total = len(score)
    order = highest(score, total)
    pool = int(SHARE * (total - count)) + 1
    clusters = min(pool // CLUSTER_SIZE + 1, count - 1)
    if clusters < 1:
        return Plan.select(order[:count], total)
    best, rest = order[: count - clusters], order[count - clusters :]
    rest = rest[: max(pool, clusters)].sort().values
    centres, label = density_clusters(hidden[rest], clusters)
    alive = torch.cat([best, rest]).sort().values
    head = torch.arange(total, device=score.device)
    head[rest] = rest[centres][label]
    return join(total, [(alive, Plan.merge(torch.searchsorted(alive, head[alive]), size[alive]))])
