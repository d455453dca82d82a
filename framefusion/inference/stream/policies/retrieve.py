"""ReKV: everything is kept, outside of the accelerator's memory, and the question picks what is read.

Paper: https://arxiv.org/abs/2503.00540 (ICLR 2025). Differs from the published code: a block is a time step; keys and
queries are compared as they are before rotation; the question's queries are those of a first reading with the latest
entries alone, in all layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from framefusion.core.options import Mix
from framefusion.inference.stream.policies.policy import Entries, Kept, Policy, behind_protected, everything


@dataclass(frozen=True)
class Retrieve(Policy):
    """Forgets nothing. While it reads frames, the model sees the latest entries; for a question, those and what is like
    it, each layer its own.

    Args:
        latest: share of the budget that is read whatever the question.
    """

    retrieves: ClassVar[bool] = True

    latest: Mix = 0.25

    def compress(self, layers: Sequence[Entries], budget: int) -> list[Kept]:
        return [everything(entries) for entries in layers]

    def select(self, entries: Entries, query: Tensor, budget: int) -> Kept:
        """What is read of one layer for a question.

        entries: with keys (H, S, d) as they are before rotation. query: (H, d) mean of the question's queries, before
        rotation too, over the query heads of each key head.
        """
        first, room = entries.protected, budget - entries.protected
        count = entries.count - first
        if count <= room:
            return everything(entries)
        newest = int(self.latest * room)
        older = slice(first, entries.count - newest)
        steps, inverse, sizes = entries.frame[0, older].unique(return_inverse=True, return_counts=True)
        keys = entries.keys[:, older].float()
        means = keys.new_zeros(keys.shape[0], len(steps), keys.shape[-1]).index_add_(1, inverse, keys) / sizes[:, None]
        likeness = cosine_similarity(means, query.float()[:, None], dim=-1).mean(0)
        order = likeness.argsort(descending=True, stable=True)
        chosen = torch.zeros_like(steps, dtype=torch.bool)
        chosen[order[sizes[order].cumsum(0) <= room - newest]] = True
        tail = torch.arange(older.stop, entries.count, device=keys.device)
        index = torch.cat([chosen[inverse].nonzero().flatten() + first, tail])
        return Kept(behind_protected(index[None], first))
