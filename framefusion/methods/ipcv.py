"""IPCV: patches leave the vision tower after an early block, and come back behind its last one.

Paper: https://arxiv.org/abs/2512.18747. Acts inside the tower; the projector and all behind it see the whole grid.

Differs from the published code: patches are chosen picture by picture and not over the whole prompt, so that a batch
equals its rows; block, and number of blocks that read everything, follow from the depth of the tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from framefusion.core.errors import UnsupportedPointError
from framefusion.core.layout import PATCH
from framefusion.core.method import Method, MethodFacts, Signals, Stage
from framefusion.core.ops.budget import kept_count
from framefusion.core.options import Count, Interval, Keep
from framefusion.core.plan import Plan
from framefusion.core.stage import VisionStage

Blocks = Annotated[int, Interval("[0, inf)")]
EARLY, READING = 3 / 32, 7 / 32


@dataclass(frozen=True)
class IPCV(Method):
    """Keep the patches that an early block changed most; the others change as their neighbours do (paper, section 3).

    Args:
        keep: patches of each picture that later blocks work on, a fraction in (0, 1] or a number. 1.0 is the identity.
        block: blocks that work on all patches, 1 or more; None for 3 of 32, as many of a tower of another depth.
        reading: blocks behind them whose attention still reads all patches, brought back for it; None for 7 of 32.
        neighbours: nearest kept patches whose mean change the others take over.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.Chain(ff.IPCV(keep=0.5), ff.Uniform(keep=0.3))) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.tower_cost < 1
        True
    """

    keep: Keep = 0.35
    block: Count | None = None
    reading: Blocks | None = None
    neighbours: Count = 10

    facts = MethodFacts(
        name="ipcv",
        title="IPCV",
        paper="https://arxiv.org/abs/2512.18747",
        summary="takes patches out of the vision tower after an early block and brings them back behind the last one",
        stage="inside the vision tower, before a block and behind the last one",
    )

    def stages(self) -> tuple[Stage, ...]:
        needs = frozenset({"entered"})
        return (VisionStage(self.decide, needs, "before", self.neighbours, self.blocks_reading),)

    def decide(self, signals: Signals, block: int, blocks: int, patches: int) -> Plan | None:
        """Which tokens of one picture later blocks work on; None before any other block than that of `block`.

        Args:
            signals: of the picture's tokens, as they enter this block.
            block: index of the block.
            blocks: number of blocks.
            patches: patches of the picture.
        """
        early = _share(self.block, EARLY, blocks, least=1)
        if early >= blocks:
            raise UnsupportedPointError(
                f"this vision tower has no block behind the first {early}",
                f"it has {blocks} whose output can be seen",
                "choose a smaller `block`",
            )
        count = kept_count(self.keep, patches)
        if block != early or count >= patches:
            return None
        change = (signals.hidden().float() - signals.entered().float()).norm(dim=-1)
        patch = signals.geometry.kind == PATCH
        chosen = torch.topk(change.masked_fill(~patch, float("-inf")), count).indices
        return Plan.select(torch.cat([chosen, (~patch).nonzero().flatten()]), len(signals))

    def blocks_reading(self, blocks: int) -> int:
        """Of a tower of `blocks` blocks, those whose attention still reads all patches."""
        return _share(self.reading, READING, blocks, least=0)


def _share(given: int | None, share: float, blocks: int, least: int) -> int:
    return max(least, round(share * blocks)) if given is None else given
