"""DyCoke, its temporal stage: in windows of four frames, keep the first and prune what repeats it.

Paper: DyCoke, https://arxiv.org/abs/2411.15024.

Differs from the published code: clips of any length work (there, four frames or fewer fail, an odd last frame is lost,
and the third frame of the last window is never pruned); survivors stay in reading order; the budget is that of the
whole clip instead of a pruning rate per compared frame. The second stage of the paper, which hides cache entries from
single decoding steps, removes nothing and is not part of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.matching import pair_cosine, partners
from framefusion.core.ops.selection import lowest_of_each
from framefusion.core.options import Keep
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 4
FRAMES_BACK = (0, 1, 2, 1)
"""With which earlier frame each frame of a window is compared."""
ROUNDING_NOISE = 1e-9


@dataclass(frozen=True)
class DyCoke(Method):
    """Temporal token pruning of the paper's first stage.

    Of every four frames of a clip the first stays whole. The second is compared with the first, the third with the
    first, the fourth with the third, cell by cell, and each keeps int(s * P) of its P tokens, those least similar to
    their partner. The share s is what the first frames leave of the budget.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; default 0.475, which is s = 0.3, the
            pruning rate 0.7 of the paper, on whole windows. Never fewer than the first frames of the windows hold, a
            quarter of a long clip. 1.0 is the identity.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.DyCoke(keep=0.475)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 224)
    """

    keep: Keep = 0.475

    facts = MethodFacts(
        name="dycoke",
        title="DyCoke, temporal stage",
        paper="https://arxiv.org/abs/2411.15024",
        summary="keeps the first of every four frames and what differs from it in the other three",
        stage="before layer 0",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        geometry = signals.geometry
        frame = torch.unique(geometry.frame, return_inverse=True)[1]
        back = torch.tensor(FRAMES_BACK, device=frame.device)[frame % WINDOW]
        similarity = pair_cosine(signals.hidden(), partners(frame, geometry.patch, frame - back))
        kept = lowest_of_each(similarity, frame, self.quota(torch.bincount(frame)))
        return Plan.select(kept.nonzero().flatten(), len(signals))

    def quota(self, tokens: Tensor) -> Tensor:
        """(F,) tokens to keep of each frame. tokens: (F,) tokens it has."""
        whole = torch.arange(tokens.numel(), device=tokens.device) % WINDOW == 0
        total, untouched = int(tokens.sum()), int(tokens[whole].sum())
        budget = min(self.keep, total) if isinstance(self.keep, int) else self.keep * total
        share = max(0.0, budget - untouched) / max(1, total - untouched)
        compared = (tokens.double() * share + ROUNDING_NOISE).floor().long()
        return torch.where(whole, tokens, compared)
