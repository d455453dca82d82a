"""What a method decides: which tokens stay, and which others they take in.

A plan acts on one stream of N tokens (shape legend in `layout.py`). It applies itself to any tensor of that stream, and
its provenance composes with the plans before it; values do not compose, since layers lie between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from framefusion.core.errors import OptionError
from framefusion.core.ops.weighted import Sums, weighted_rows

if TYPE_CHECKING:
    from torch import Tensor

GONE = -1
"""Owner of a token that was pruned, not merged."""


@dataclass(frozen=True)
class Learned:
    """What a learned reducer adds to a plan; gradients flow through all of it.

    gate: (K,) in (0, 1], how much each survivor counts in the attention of later layers, which adds log(gate) to the
    logits of its key; None where all count in full. slots, values: (R,) survivors 0..K-1 and the (R, D) states that
    they get in place of what the plan makes of them. text: (M, D) new states of the tokens of `Signals.text`.
    """

    gate: Tensor | None = None
    slots: Tensor | None = None
    values: Tensor | None = None
    text: Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """Which of `count` tokens stay, and what they become.

    Args:
        count: tokens before.
        keep: ascending indices of the survivors; a survivor keeps its own position.
        owner: slot of the survivor that stands for each token, GONE where it was pruned.
        target: slots 0..K-1 of the survivors that take something in, or None if nothing merges.
        source: tokens taken in; a token may go to several survivors.
        weight: share of the source in the survivor's new value.
        own: share of the survivor's old value in its new one (1 where nothing merges in).
        learned: what a learned reducer adds, or None.

    Shapes:
        N tokens, K survivors, M merges. keep: (K,). owner: (N,). target, source, weight: (M,). own: (K,).

    Example:
        >>> import torch
        >>> ff.Plan.select(torch.tensor([0, 2]), 4).owner
        tensor([ 0, -1,  1, -1])
        >>> plan = ff.Plan.merge(head=torch.tensor([0, 0, 2]), size=torch.ones(3))
        >>> plan.apply(torch.tensor([[1.0], [3.0], [5.0]]))
        tensor([[2.],
                [5.]])
    """

    count: int
    keep: Tensor
    owner: Tensor
    target: Tensor | None = None
    source: Tensor | None = None
    weight: Tensor | None = None
    own: Tensor | None = None
    learned: Learned | None = None

    @property
    def kept(self) -> int:
        """K, how many survive."""
        return self.keep.numel()

    @property
    def merges(self) -> bool:
        """Whether a survivor takes anything in."""
        return self.target is not None

    @staticmethod
    def identity(count: int, device: torch.device | str = "cpu") -> Plan:
        """Each of `count` tokens stays as it is; the plan's tensors lie on `device`."""
        everything = torch.arange(count, device=device)
        return Plan(count, everything, everything)

    @staticmethod
    def select(keep: Tensor, count: int) -> Plan:
        """Of `count` tokens those of `keep` (K,) stay, in prompt order, all others are pruned."""
        keep = keep.sort().values
        owner = torch.full((count,), GONE, dtype=torch.long, device=keep.device)
        owner[keep] = torch.arange(keep.numel(), device=keep.device)
        return Plan(count, keep, owner)

    @staticmethod
    def merge(head: Tensor, size: Tensor, kept: int | None = None) -> Plan:
        """Every token joins the token `head` names; survivors become the mean of their group, weighted by `size`.

        head: (N,) index of the token that stands for each token; a survivor names itself.
        size: (N,) float, how many original tokens each one carries (ones give the plain mean).
        kept: number of survivors where it is known, which spares a device the question.
        """
        count = head.numel()
        is_head = head == torch.arange(count, device=head.device)
        if kept is None:
            kept = int(is_head.sum())
            if bool((~is_head[head]).any()):
                raise OptionError("a merged token must name a survivor as its head")
        keep = torch.nonzero_static(is_head, size=kept).flatten()
        slot = is_head.cumsum(0) - 1
        owner = slot[head]
        if kept == count:
            return Plan(count, keep, owner)
        source = torch.nonzero_static(~is_head, size=count - kept).flatten()
        size = size.to(torch.float32)
        total = torch.zeros(kept, device=head.device).index_add_(0, owner, size)
        target = owner[source]
        return Plan(count, keep, owner, target, source, size[source] / total[target], size[keep] / total)

    def with_learned(
        self, *, gate: Tensor | None = None, values: Tensor | None = None, text: Tensor | None = None
    ) -> Plan:
        """The same plan with what a learned reducer adds.

        gate: (K,) as in `Learned`. values: (K, D) new states of all survivors. text: (M, D) as there.
        """
        slots = None if values is None else torch.arange(self.kept, device=values.device)
        return replace(self, learned=Learned(gate, slots, values, text))

    def sums(self) -> Sums | None:
        """What the survivors become, as sums over the tokens; None if nothing merges."""
        if self.target is None or self.source is None or self.weight is None or self.own is None:
            return None
        return Sums.of(self.keep, self.own, self.target, self.source, self.weight)

    def apply(self, values: Tensor) -> Tensor:
        """values: (N, ...) of this stream -> (K, ...). Sums run in float32."""
        if values.shape[0] != self.count:
            raise OptionError(f"this plan acts on {self.count} tokens, not on {values.shape[0]}")
        sums = self.sums()
        return values.index_select(0, self.keep) if sums is None else weighted_rows(values, sums)

    def sizes(self, before: Tensor) -> Tensor:
        """How many original tokens each survivor carries. before: (N,) -> (K,)."""
        # One place more than there are survivors, for what the pruned ones carried.
        after = torch.zeros(self.kept + 1, dtype=before.dtype, device=before.device)
        return after.index_add_(0, torch.where(self.owner == GONE, self.kept, self.owner), before)[: self.kept]

    def to(self, device: torch.device) -> Plan:
        """The same plan with its tensors on a device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        keep, owner = self.keep.to(device), self.owner.to(device)
        own = moved(self.own)
        return Plan(
            self.count, keep, owner, moved(self.target), moved(self.source), moved(self.weight), own, self.learned
        )


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Provenance through two plans: owners (N,) of the first, (K,) of the second -> (N,) slots after both."""
    # GONE, the last place, is what an owner that is GONE points at; the first plan may have no survivor at all.
    return torch.cat([then, then.new_full((1,), GONE)])[first]


def blend(keep: Tensor, head: Tensor, target: Tensor, source: Tensor, size: Tensor, beta: float) -> Plan:
    """Every target becomes w times itself plus 1 - w times the mean of its sources; w is at least `beta`.

    keep: (K,) ascending survivors. head: (N,) survivor that stands for each token, GONE where none does. target,
    source: (M,) tokens; a source may go to several targets. size: (N,) originals behind each token: they weigh the
    mean, and w is the target's share of all of them if that is more than `beta`.
    """
    count = len(head)
    slot = torch.full((count,), GONE, dtype=torch.long, device=head.device)
    slot[keep] = torch.arange(len(keep), device=head.device)
    owner = torch.where(head == GONE, GONE, slot[head.clamp(min=0)])
    if len(source) == 0:
        return Plan(count, keep, owner)
    size, to = size.to(torch.float32), slot[target]
    taken = torch.zeros(len(keep), device=head.device).index_add_(0, to, size[source])
    own = torch.where(taken > 0, (size[keep] / (size[keep] + taken)).clamp(min=beta), 1.0)
    return Plan(count, keep, owner, to, source, (1.0 - own[to]) * size[source] / taken[to], own)


def mixed(head: Tensor, target: Tensor, source: Tensor, weight: Tensor) -> Plan:
    """Every survivor becomes the sum of its sources, each times its weight; it is one of them, once.

    head: (N,) survivor that stands for each token, GONE where none does; a survivor names itself. target, source:
    (M,) tokens; a source may go to several targets. weight: (M,).
    """
    count = len(head)
    keep = (head == torch.arange(count, device=head.device)).nonzero().flatten()
    slot = torch.full((count + 1,), GONE, dtype=torch.long, device=head.device)
    slot[keep] = torch.arange(len(keep), device=head.device)
    owner, itself = slot[head], target == source
    if bool(itself.all()):
        return Plan(count, keep, owner)
    own = torch.ones(len(keep), device=head.device)
    own[slot[target[itself]]] = weight[itself].to(own)
    return Plan(count, keep, owner, slot[target[~itself]], source[~itself], weight[~itself].to(own), own)


def halving_shares(head: Tensor) -> Tensor:
    """(N,) share of each token in its survivor, if that takes in one token after the other at half and half.

    head: (N,) survivor that stands for each token; a survivor names itself. Tokens are taken in in prompt order.
    """
    group = torch.unique(head, return_inverse=True)[1]
    joins = head != torch.arange(len(head), device=head.device)
    joined = torch.bincount(group[joins], minlength=int(group.max()) + 1)
    lined = group.sort(stable=True).indices
    seen = torch.empty_like(head)
    seen[lined] = joins[lined].cumsum(0)
    seen = seen - (joined.cumsum(0) - joined)[group]
    return torch.exp2(-torch.where(joins, joined[group] - seen + 1, joined[group]).to(torch.float32))
