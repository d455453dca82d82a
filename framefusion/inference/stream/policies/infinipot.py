"""InfiniPot-V: the newest frames, what changed since, and what carries the largest values.

Paper: https://arxiv.org/abs/2506.15745 (NeurIPS 2025). Differs from the published code: the cache is compressed
whenever it is above its budget, not in blocks; words between frames compete by their values only; a token whose place
is in none of the newest frames counts as changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from framefusion.core.options import Mix, Share
from framefusion.inference.stream.policies.policy import Entries, Kept, Policy, behind_protected


@dataclass(frozen=True)
class InfiniPot(Policy):
    """Every head keeps its own entries. Needs no question.

    Args:
        query_ratio: share of the entries that are newest, in whole frames, and always stay.
        tar_ratio: share of the rest that stays because it is unlike the newest frames; the others by their values.
    """

    query_ratio: Share = 0.25
    tar_ratio: Mix = 0.5

    def keep(self, entries: Entries, budget: int) -> Kept:
        heads, count, first = entries.keys.shape[0], entries.count, entries.protected
        room = budget - first
        newest = min(room, newest_entries(entries.frame[0, first:], self.query_ratio))
        places = entries.place.expand(heads, -1)
        older = slice(first, count - newest)
        visual = entries.visual.expand(heads, -1)
        change = 1 - likeness(entries.keys, torch.where(visual, places, -1), older, newest)
        change = change.masked_fill(~visual[:, older], -torch.inf)
        norms = entries.values[:, older].float().norm(dim=-1)
        rest = room - newest
        changed = change.topk(int(self.tar_ratio * rest), 1).indices
        # What changed comes first, whatever its values.
        chosen = norms.scatter(1, changed, torch.inf).topk(rest, 1).indices + first
        tail = torch.arange(count - newest, count, device=chosen.device).expand(heads, -1)
        return Kept(behind_protected(torch.cat([chosen, tail], 1), first))


def newest_entries(frame: Tensor, share: float) -> int:
    """Entries of the newest whole frames that make up at most `share` of all; those of one frame at least.

    frame: (S,) of each entry, ascending.
    """
    counts = frame.unique_consecutive(return_counts=True)[1].flip(0).cumsum(0)
    fitting = counts[counts <= share * frame.numel()]
    return int(fitting[-1]) if fitting.numel() else int(counts[0])


def likeness(keys: Tensor, place: Tensor, older: slice, newest: int) -> Tensor:
    """(H, n) cosine of the key of each of `older` with those at its place in the newest frames, their mean.

    keys: (H, S, d). place: (H, S), -1 for words. newest: entries of the newest frames, the last ones. -1 where none of
    these has the place.
    """
    directions = normalize(keys.float(), dim=-1)
    late = place[0, -newest:].long()
    visual = late >= 0
    size = max(1, int(place.max()) + 1)
    sums = directions.new_zeros(keys.shape[0], size, keys.shape[-1])
    sums.index_add_(1, late[visual], directions[:, -newest:][:, visual])
    counts = torch.bincount(late[visual], minlength=size).to(sums)
    mean = sums / counts.clamp(min=1)[:, None]
    at = place[:, older].long().clamp(min=0)
    cosine = (directions[:, older] * mean.gather(1, at[..., None].expand(-1, -1, keys.shape[-1]))).sum(-1)
    return torch.where(counts[at] > 0, cosine, -1.0)
