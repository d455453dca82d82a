"""LLaVA-Scissor: one token per group of similar tokens, first within each frame, then over the clip.

Paper: LLaVA-Scissor, https://arxiv.org/abs/2506.21862.

Differs from the published code: connected components are exact (the code samples nodes of large graphs and loses tokens
of deep components); a component is stood for by its best connected token, which keeps its position and prompt order;
every clip is treated by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import frame_groups
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.clustering import components, similar_pairs
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import Cosine
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024


@dataclass(frozen=True)
class Scissor(Method):
    """Semantic connected components in space, then in time.

    Args:
        tau: cosine above which two tokens are connected, [-1, 1]; the method's only control, so the count follows from
            the data. 1 is the identity. The published runs use 0.9.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.Scissor(tau=0.9)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    tau: Cosine = 0.9
    proportional_attention: bool = False

    facts = MethodFacts(
        name="scissor",
        title="LLaVA-Scissor",
        paper="https://arxiv.org/abs/2506.21862",
        summary="merges tokens that chains of similar tokens connect, within frames, then over the clip",
        stage="prompt, before layer 0",
        count="data",
        merges=True,
        budget="tau",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        total = len(signals)
        if self.tau >= 1.0:
            return Plan.identity(total, signals.size.device)
        hidden = signals.hidden().to(torch.float32)
        head = torch.empty(total, dtype=torch.long, device=hidden.device)
        for frame in frame_groups(signals.geometry):
            head[frame] = frame[self._heads(hidden[frame])]
        means, heads, group = _means(hidden, head)
        means, later, group_of = _means(means, self._heads(means))
        slot = group_of[group]
        share = 1.0 / (torch.bincount(group)[group] * torch.bincount(group_of)[slot])
        return _blend(heads[later], slot, share, _nearest(hidden, means))

    def _heads(self, values: Tensor) -> Tensor:
        """(n,) index of the best connected row of each row's component; the earlier one among equals."""
        pairs = similar_pairs(unit_rows(values), self.tau)
        label = components(pairs)
        order = highest(pairs.sum(1), len(pairs))
        # Stable by component: the first of each is its best connected row.
        order = order[label[order].sort(stable=True).indices]
        first = torch.ones_like(order, dtype=torch.bool)
        first[1:] = label[order][1:] != label[order][:-1]
        head = torch.empty_like(label)
        head[label[order[first]]] = order[first]
        return head[label]


def _means(values: Tensor, head: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of equal `head` (n,): their means (g, D), their heads (g,) ascending, the group of each row (n,)."""
    heads, group = torch.unique(head, return_inverse=True)
    total = values.new_zeros(len(heads), values.shape[1]).index_add_(0, group, values)
    return total / torch.bincount(group)[:, None], heads, group


def _nearest(hidden: Tensor, means: Tensor) -> Tensor:
    """(N,) number of the row of `means` (K, D) with the highest cosine."""
    unit, target = unit_rows(hidden), unit_rows(means)
    return torch.cat([(rows @ target.T).argmax(1) for rows in unit.split(ROWS)])


def _blend(keep: Tensor, slot: Tensor, share: Tensor, joins: Tensor) -> Plan:
    """Survivors become the mean of their component's representative and of all tokens that join it.

    keep: (K,) ascending. slot: (N,) survivor that heads each token's component, with weight `share` (N,) in its
    representative. joins: (N,) survivor whose representative each token is most similar to.
    """
    everything = torch.arange(len(slot), device=slot.device)
    scale = 1.0 / (torch.bincount(joins, minlength=len(keep)) + 1.0)
    target, source = torch.cat([slot, joins]), torch.cat([everything, everything])
    weight = torch.cat([share * scale[slot], scale[joins]])
    itself = source == keep[target]
    own = torch.zeros_like(scale).index_add_(0, target[itself], weight[itself])
    owner = joins.clone()
    owner[keep] = torch.arange(len(keep), device=keep.device)
    if bool(itself.all()):
        return Plan.identity(len(slot), keep.device)
    return Plan(len(slot), keep, owner, target[~itself], source[~itself], weight[~itself], own)
