"""LLaVA-PruMerge and PruMerge+: keep what the class token looks at, and merge the rest into it by key similarity.

Paper: https://arxiv.org/abs/2403.15388. Acts in front of the projector, picture by picture.

Differs from the published code, unless `strict=True`: statistics are per picture (the code mixes a batch), survivors
stay in reading order (the code sorts them by score), merged values are normalised means (the code adds weighted
neighbours without dividing), and the spatial samples of PruMerge+ follow a target count (the code's stride keeps
everything at ratios over 1/6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F

from framefusion.errors import OptionError
from framefusion.method import Method, MethodFacts, Signals, Stage
from framefusion.ops.count import Keep, check_keep, kept_count
from framefusion.plan import GONE, Plan
from framefusion.stage import PerPicture

if TYPE_CHECKING:
    from torch import Tensor

FENCE = 1.5
LAST_LAYER = -1


def outlier_count(score: Tensor) -> int:
    """Scores above the upper fence of their quartiles, Q3 + 1.5 (Q3 - Q1) (paper, section 3.2)."""
    first, third = torch.quantile(score.float(), torch.tensor([0.25, 0.75], device=score.device)).tolist()
    return int((score > third + FENCE * (third - first)).sum())


@dataclass(frozen=True)
class PruMerge(Method):
    """Adaptive token selection and merging (paper, section 3).

    keep: tokens of each picture, a fraction in (0, 1] or a number, the token that gathers the pruned ones included;
        None takes as many as stand out (outliers of the class token's attention) and one more. 1.0 is the identity.
    neighbours: nearest tokens that merge into each survivor.
    strict: reproduce the published code to the letter, its adaptive count included; `keep` must be None.
    """

    keep: Keep | None = None
    neighbours: int = 32
    strict: bool = False

    spatial: ClassVar[int] = 0
    facts: ClassVar[MethodFacts] = MethodFacts(
        name="prumerge",
        title="LLaVA-PruMerge",
        paper="https://arxiv.org/abs/2403.15388",
        summary="keeps what stands out in the class token's attention and merges the nearest tokens into it",
        stage="in front of the projector, picture by picture",
        query_aware=False,
        count="data",
        merges=True,
        needs=("vision", "features"),
    )

    def __post_init__(self) -> None:
        if self.keep is not None:
            check_keep(self.keep)
        if self.strict and self.keep is not None:
            raise OptionError("strict PruMerge chooses its own count", hint="drop `keep`, or drop `strict`")
        if self.neighbours < 1:
            raise OptionError(f"neighbours must be at least 1, got {self.neighbours}")

    def stages(self) -> tuple[Stage, ...]:
        return (PerPicture(self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one picture."""
        total = len(signals)
        if self.keep == 1.0 and not isinstance(self.keep, int):
            return Plan.identity(total, signals.size.device)
        vision = signals.vision()
        score = vision.saliency(LAST_LAYER, True).float()
        chosen = self.select(score)
        return self._merge(chosen, score, vision.keys(LAST_LAYER).float())

    def select(self, score: Tensor) -> Tensor:
        """(K,) survivors in the published order: by score, then the spatial samples. score: (N,)."""
        total = score.numel()
        if self.keep is None:
            count = outlier_count(score)
            ratio = count / total
            best = torch.topk(score, max(1, int(total * ratio))).indices
            extra = self._published_grid(ratio, total) if self.strict else self._grid(best, 3 * best.numel(), total)
        else:
            budget = max(1, kept_count(self.keep, total) - 1)
            best = torch.topk(score, max(1, budget // (1 + self.spatial))).indices
            extra = self._grid(best, budget - best.numel(), total)
        extra = extra.to(best.device) if self.spatial else best[:0]
        return torch.cat([best, extra[~torch.isin(extra, best)]])

    def _published_grid(self, ratio: float, total: int) -> Tensor:
        stride = max(1, int(int(1 / max(ratio, 1 / total)) / 3))
        return torch.arange(0, total - 1, stride)

    def _grid(self, taken: Tensor, count: int, total: int) -> Tensor:
        """`count` tokens evenly over those not taken yet, in reading order."""
        free = torch.ones(total, dtype=torch.bool)
        free[taken.cpu()] = False
        left = free.nonzero().flatten()
        count = min(count, left.numel())
        return left[(torch.arange(count) * left.numel()) // max(1, count)]

    def _merge(self, chosen: Tensor, score: Tensor, keys: Tensor) -> Plan:
        total = score.numel()
        pruned = torch.ones(total, dtype=torch.bool, device=score.device).index_fill(0, chosen, False)
        rest = pruned.nonzero().flatten()
        gatherer = rest[score[rest].argmax()][None] if rest.numel() else rest
        keep = torch.cat([chosen, gatherer]).sort().values
        slot = torch.full((total,), GONE, dtype=torch.long, device=score.device)
        slot[keep] = torch.arange(keep.numel(), device=score.device)
        unit = F.normalize(keys, dim=-1)
        likeness = unit[chosen] @ unit.T
        likeness[torch.arange(chosen.numel(), device=score.device), chosen] = float("-inf")
        near = torch.topk(likeness, min(self.neighbours, total - 1)).indices
        others = rest[rest != gatherer] if rest.numel() else rest
        target = torch.cat([slot[chosen].repeat_interleave(near.shape[1]), slot[gatherer].expand(others.numel())])
        source = torch.cat([near.flatten(), others])
        weight, own = score[source], torch.ones(keep.numel(), device=score.device)
        own[slot[gatherer]] = score[gatherer]
        if not self.strict:
            mass = own.index_add(0, target, weight).clamp(min=torch.finfo(torch.float32).tiny)
            weight, own = weight / mass[target], own / mass
        owner = slot.clone()
        owner[others] = slot[gatherer] if gatherer.numel() else GONE
        return Plan(total, keep, owner, target, source, weight, own)


@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """PruMerge+: three spatial samples for every token that stands out (paper, section 3.4).

    Options as in PruMerge; with `keep`, a quarter of it goes to the tokens that stand out.
    """

    spatial: ClassVar[int] = 3
    facts: ClassVar[MethodFacts] = MethodFacts(
        name="prumerge_plus",
        title="LLaVA-PruMerge+",
        paper="https://arxiv.org/abs/2403.15388",
        summary="PruMerge with tokens sampled evenly over the picture beside those that stand out",
        stage="in front of the projector, picture by picture",
        query_aware=False,
        count="data",
        merges=True,
        needs=("vision", "features"),
    )
