"""UniComp: frames that repeat become one, and in each of the others tokens that look alike.

Paper: UniComp, https://arxiv.org/abs/2512.03575.

Differs from the published code: likeness is that of the embeddings (the code compares keys of the tower, and frames by
SigLIP's pooling head); the count is exact: seats that a frame cannot fill with unique tokens go to others, then to
tokens that are alike, and no more frames become one than leave the budget enough tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.grid import number_of
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.unique import Ranking, ranked, repeated_frames, seats_by_uniqueness
from framefusion.core.ops.weighted import group_sums, members
from framefusion.core.options import Interval, Keep
from framefusion.core.plan import GONE, Plan, mixed
from framefusion.core.scored import BudgetedMethod

if TYPE_CHECKING:
    from torch import Tensor

Distance = Annotated[float, Interval("[0, 2]", noun="cosine distance")]


@dataclass(frozen=True)
class UniComp(BudgetedMethod):
    """Uniqueness decides three times: which frames stay, how many tokens each of them keeps, and which.

    Args:
        keep: fraction of the patches of each clip, (0, 1], rounded to the nearest count, or their number; default 0.25.
            1.0 is the identity.
        frames: cosine distance up to which a frame becomes one with those before it, [0, 2].
        tokens: cosine distance below which two tokens of a frame are alike, [0, 2].
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.UniComp(keep=0.25)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    keep: Keep = 0.25
    frames: Distance = 0.005
    tokens: Distance = 0.2
    proportional_attention: bool = False

    facts = MethodFacts(
        name="unicomp",
        title="UniComp",
        paper="https://arxiv.org/abs/2512.03575",
        summary="joins frames that repeat and, in a frame, tokens that are alike; unlike frames keep more",
        stage="before layer 0",
        merges=True,
    )

    def plan(self, signals: Signals, count: int) -> Plan:
        hidden, frame = signals.hidden().to(torch.float32), frame_numbers(signals.geometry)
        group = repeated_frames(unit_rows(group_sums(hidden, frame)), self.frames, len(signals) // count)[frame]
        cell = number_of(group, signals.geometry.patch)
        size = signals.size.to(torch.float32)
        share = size / group_sums(size, cell)[cell]
        fused = group_sums(hidden * share[:, None], cell)
        where = torch.zeros(len(fused), dtype=torch.long, device=cell.device).scatter_(0, cell, group)
        cells = [(where == number).nonzero().flatten() for number in range(int(group.max()) + 1)]
        rankings = [ranked(unit_rows(fused[own]), self.tokens) for own in cells]
        unique = torch.tensor([one.unique for one in rankings], device=cell.device)
        seats = seats_by_uniqueness(unit_rows(group_sums(fused, where)), torch.bincount(where), unique, count).tolist()
        head, target, source, weight = _blended(cells, rankings, seats)
        # From fused tokens, each of which lies where its first one does, to those they are made of.
        token = torch.arange(len(signals), device=cell.device)
        first = torch.full_like(head, len(signals)).scatter_reduce_(0, cell, token, "amin")
        entry, tokens = members(cell, source)
        joined = torch.where(head == GONE, GONE, first[head])
        return mixed(joined[cell], first[target[entry]], tokens, weight[entry] * share[tokens])


def _blended(
    cells: Sequence[Tensor], rankings: Sequence[Ranking], seats: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every chosen token becomes the mean of itself and of the mean of those of its frame that are like it.

    cells: of each frame, its fused tokens. Returns head (M,) and, of every share, its target, source and weight.
    """
    head = torch.full((sum(map(len, cells)),), GONE, device=cells[0].device)
    parts = []
    for own, ranking, count in zip(cells, rankings, seats, strict=True):
        if count:
            chosen = ranking.order[:count]
            alike = ranking.alike[chosen]
            best = ranking.likeness[chosen].masked_fill(~alike, float("-inf")).argmax(0)
            head[own] = torch.where(alike.any(0), own[chosen[best]], GONE)
            head[own[chosen]] = own[chosen]
            shares = 0.5 * alike / alike.sum(1, keepdim=True)
            shares[torch.arange(count), chosen] += 0.5
            row, column = shares.nonzero(as_tuple=True)
            parts.append((own[chosen[row]], own[column], shares[row, column]))
    target, source, weight = (torch.cat(part) for part in zip(*parts, strict=True))
    return head, target, source, weight
