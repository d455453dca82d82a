"""VQToken's base: all tokens of a clip become a few clusters, however long it is.

Paper: VQToken (Token Dynamics), https://arxiv.org/abs/2503.16980. This is what the released code runs; the attention of
the paper is not called there.

Differs from the published code: seeds are drawn from a generator of their own, once for all numbers of clusters that
are tried; the bend is where it is (the code counts it from 4 and so never takes more than 22 clusters); a cluster is
the mean of its tokens (the code: of their directions), at the place of the token nearest to it; empty clusters are left
out (the code: zero tokens). With `strict` count and values are the code's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.kmeans import bend, clusters, first_nearest, loss, spread_seeds
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.weighted import group_means
from framefusion.core.options import Keep, Seed, Share
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

TRIED = 21
"""Numbers of clusters that are tried at most."""

COUNTED_FROM = 4
"""Clusters that the published code takes where the first three losses bend most, unless its least number is higher."""


@dataclass(frozen=True)
class VQTokenBase(Method):
    """K-means by cosine over all tokens of a clip, for up to 21 numbers of clusters; the loss's sharpest bend decides.

    Args:
        keep: most clusters of each clip, or their fraction of its patches, (0, 1]; default 32. 1.0 is the identity, and
            so is a number that a clip does not exceed.
        least: fewest clusters tried, as a fraction of the most, (0, 1]; 0.375 is 12 of 32. 1 always takes the most.
        seed: of the lots that choose the first centres.
        strict: count and values of the published code, for a model that was trained with it.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.VQTokenBase()) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> 12 <= reduction.report.kept_tokens <= 32
        True
    """

    keep: Keep = 32
    least: Share = 0.375
    seed: Seed = 0
    strict: bool = False
    proportional_attention: bool = False

    facts = MethodFacts(
        name="vqtoken_base",
        title="VQToken, base",
        paper="https://arxiv.org/abs/2503.16980",
        summary="clusters all tokens of a clip into at most 32",
        stage="before layer 0",
        count="data",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        total = len(signals)
        most = kept_count(self.keep, total)
        if most == total:
            return Plan.identity(total, signals.size.device)
        hidden = signals.hidden().to(torch.float32)
        unit = unit_rows(hidden)
        label = self._clusters(unit, most)
        means = group_means(unit, label, int(label.max()) + 1)
        head = first_nearest((unit * unit_rows(means)[label]).sum(1), label)
        plan = Plan.merge(head, signals.size)
        return _of_directions(plan, hidden, label) if self.strict else plan

    def _clusters(self, unit: Tensor, most: int) -> Tensor:
        """(N,) cluster of each of the (N, D) unit rows."""
        seeds = spread_seeds(unit, most, self.seed)
        tried = _numbers(kept_count(self.least, most), len(seeds))
        labels = {number: clusters(unit, unit[seeds[:number]]) for number in tried}
        middle = bend([loss(unit, label) for label in labels.values()])
        if not self.strict or len(tried) < 3:
            return labels[tried[middle]]
        number = min(max(tried[0], middle - 1 + COUNTED_FROM), len(seeds))
        return labels[number] if number in labels else clusters(unit, unit[seeds[:number]])


def _numbers(least: int, most: int) -> list[int]:
    """Numbers of clusters from `least` to `most`, evenly spaced where these are too many."""
    least = min(least, most)
    steps = min(most - least, TRIED - 1)
    return [least + (most - least) * step // max(1, steps) for step in range(steps + 1)]


def _of_directions(plan: Plan, hidden: Tensor, label: Tensor) -> Plan:
    """`plan` with survivors that are the mean of their tokens' directions. hidden: (N, D). label: (N,)."""
    length = hidden.norm(dim=-1)
    share = torch.where(length > 0, 1.0 / length, 0.0) / torch.bincount(label)[label]
    merged = torch.ones_like(label, dtype=torch.bool)
    merged[plan.keep] = False
    source = merged.nonzero().flatten()
    return Plan(plan.count, plan.keep, plan.owner, plan.owner[source], source, share[source], share[plan.keep])
