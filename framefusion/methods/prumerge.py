"""LLaVA-PruMerge and PruMerge+: keep what the class token looks at, and merge the rest into it by key similarity.

Paper: https://arxiv.org/abs/2403.15388. Acts in front of the projector, picture by picture.

Differs from the published code: survivors stay in reading order (the code sorts them by score), the token that gathers
the pruned ones among them (the code appends it). Unless `strict=True`, merged values are weighted means (the code does
not divide), and PruMerge+ counts its spatial samples (the code's stride keeps all tokens at ratios over 1/6).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F

from framefusion.core.errors import OptionError
from framefusion.core.method import Method, MethodFacts, Signals, Stage
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import evenly_spaced
from framefusion.core.options import Count, Keep
from framefusion.core.plan import GONE, Plan
from framefusion.core.stage import ProjectorStage

if TYPE_CHECKING:
    from torch import Tensor

FENCE = 1.5
LAST_LAYER = -1
TINY = torch.finfo(torch.float32).tiny


def outlier_count(score: Tensor) -> int:
    """Scores above the upper fence of their quartiles, Q3 + 1.5 (Q3 - Q1)."""
    first, third = torch.quantile(score, torch.tensor([0.25, 0.75], device=score.device)).tolist()
    return int((score > third + FENCE * (third - first)).sum())


@dataclass(frozen=True)
class PruMerge(Method):
    """Adaptive token selection and merging (paper, section 3).

    Args:
        keep: tokens of each picture, a fraction in (0, 1] or a number, the token that gathers the pruned ones included;
            None takes as many as stand out (outliers of the class token's attention) and that one. 1.0 is the identity.
        neighbours: nearest tokens that merge into each survivor.
        strict: the published code's arithmetic, its adaptive count included; `keep` must be None.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.PruMerge(keep=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    keep: Keep | None = None
    neighbours: Count = 32
    strict: bool = False
    proportional_attention: bool = False

    spatial: ClassVar[int] = 0
    facts = MethodFacts(
        name="prumerge",
        title="LLaVA-PruMerge",
        paper="https://arxiv.org/abs/2403.15388",
        summary="keeps what stands out in the class token's attention and merges the nearest tokens into it",
        stage="in front of the projector, picture by picture",
        count="data",
        merges=True,
    )

    def check_options(self) -> None:
        if self.strict and self.keep is not None:
            raise OptionError("strict PruMerge chooses its own count", hint="drop `keep`, or drop `strict`")

    def stages(self) -> tuple[Stage, ...]:
        return (ProjectorStage(self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one picture, from its `signals`."""
        total = len(signals)
        if total == 1 or (self.keep is not None and kept_count(self.keep, total) == total):
            return Plan.identity(total, signals.size.device)
        vision = signals.vision()
        score = vision.saliency(LAST_LAYER, True).float()
        return self._merge(self.select(score), score, vision.keys(LAST_LAYER).float())

    def select(self, score: Tensor) -> Tensor:
        """(K,) survivors by score, then the spatial samples; the gathering token is not among them. score: (N,)."""
        total = score.numel()
        ranked = score.sort(descending=True, stable=True).indices
        if self.strict:
            ratio = max(1, outlier_count(score)) / total
            # From a ratio of 1/6 on this is every token but the last.
            samples = torch.arange(0, total - 1, max(1, int(int(1 / ratio) / 3)), device=score.device)
            return self._with(ranked[: max(1, int(total * ratio))], samples)
        if self.keep is None:
            best = ranked[: max(1, outlier_count(score))]
            wanted = self.spatial * best.numel()
        else:
            budget = kept_count(self.keep, total) - 1
            best = ranked[: -(-budget // (1 + self.spatial))]
            wanted = budget - best.numel()
        free = torch.ones_like(score, dtype=torch.bool).index_fill(0, best, False).nonzero().flatten()
        return self._with(best, free[evenly_spaced(min(wanted, len(free)), len(free), free.device)])

    def _with(self, best: Tensor, samples: Tensor) -> Tensor:
        return torch.cat([best, samples[~torch.isin(samples, best)]]) if self.spatial else best

    def _merge(self, chosen: Tensor, score: Tensor, keys: Tensor) -> Plan:
        """Every survivor takes in its nearest tokens, kept or pruned; one pruned token gathers all pruned ones."""
        total = score.numel()
        rest = torch.ones_like(score, dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
        gatherer = rest[score[rest].argmax()][None] if rest.numel() else rest
        keep = torch.cat([chosen, gatherer]).sort().values
        slot = torch.full((total,), GONE, dtype=torch.long, device=score.device)
        slot[keep] = torch.arange(keep.numel(), device=score.device)
        near = self._nearest(chosen, keys)
        others = rest[~torch.isin(rest, gatherer)]
        target = torch.cat([slot[chosen].repeat_interleave(near.shape[1]), slot[gatherer].expand(others.numel())])
        source = torch.cat([near.flatten(), others])
        # Scores may underflow to zero; pruned tokens then count alike.
        share = score if self.strict else score.clamp(min=TINY)
        weight = share[source]
        own = torch.ones(keep.numel(), device=score.device).index_copy(0, slot[gatherer], share[gatherer])
        if not self.strict:
            mass = own.index_add(0, target, weight)
            weight, own = weight / mass[target], own / mass
        owner = slot.index_fill(0, others, int(slot[gatherer]) if others.numel() else GONE)
        return Plan(total, keep, owner, target, source, weight, own)

    def _nearest(self, chosen: Tensor, keys: Tensor) -> Tensor:
        """(K, neighbours) tokens whose keys are most similar to those of each survivor, itself left out."""
        unit = F.normalize(keys, dim=-1)
        likeness = (unit[chosen] @ unit.T).scatter(1, chosen[:, None], float("-inf"))
        return likeness.topk(min(self.neighbours, keys.shape[0] - 1)).indices


@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """PruMerge+: three spatial samples for every token that stands out.

    With `keep`, the tokens that stand out take a quarter of it.

    Args:
        keep: tokens of each picture, a fraction in (0, 1] or a number; None takes as many as stand out, three samples
            for each of them and one that gathers the pruned ones. 1.0 is the identity.
        neighbours: nearest tokens that merge into each survivor.
        strict: the published code's arithmetic, its adaptive count included; `keep` must be None.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.PruMergePlus(keep=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    spatial: ClassVar[int] = 3
    facts: ClassVar[MethodFacts] = replace(
        PruMerge.facts,
        name="prumerge_plus",
        title="LLaVA-PruMerge+",
        summary="PruMerge with tokens sampled evenly over the picture beside those that stand out",
    )
