"""Token Merging (ToMe): in every block of the vision tower, merge the most similar patches pairwise.

Paper: https://arxiv.org/abs/2210.09461. Acts inside the tower, between attention and MLP, with proportional attention.

Differs from the published code: survivors stay in reading order (the code moves the unmerged even ones to the front),
so the alternation of later blocks pairs other tokens; the features are spread back over the grid for the projector, and
where it maps patches to tokens one to one, the placeholders of merged patches leave the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

from framefusion.core.layout import PATCH
from framefusion.core.method import Method, MethodFacts, Signals, Stage
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.matching import soft_matching
from framefusion.core.options import Keep
from framefusion.core.plan import Plan
from framefusion.core.stage import VisionStage


@dataclass(frozen=True)
class ToMe(Method):
    """Merge a constant number of patches per block (paper, section 3).

    Args:
        keep: patches of each picture left behind the tower, a fraction in (0, 1] or a number; at most half of the
            patches can merge in one block. 1.0 is the identity.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> ff.ToMe(keep=0.5).with_budget(0.25)
        ToMe(keep=0.25, proportional_attention=False)
    """

    keep: Keep = 0.5
    proportional_attention: bool = False

    facts = MethodFacts(
        name="tome",
        title="ToMe",
        paper="https://arxiv.org/abs/2210.09461",
        summary="merges the most similar patches pairwise in every block of the vision tower",
        stage="inside the vision tower, after the attention of every block",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (VisionStage(self.decide),)

    def decide(self, signals: Signals, block: int, blocks: int, patches: int) -> Plan:
        """The plan of one block of the vision tower for one picture.

        Args:
            signals: of the picture's tokens, as they are in this block.
            block: index of the block.
            blocks: number of blocks.
            patches: patches the picture had in front of the first block.
        """
        alive = int((signals.geometry.kind == PATCH).sum())
        goal = kept_count(self.keep, patches)
        due = patches - round((patches - goal) * (block + 1) / blocks)
        metric = signals.keys().float().mean(1)
        head = soft_matching(metric, max(0, alive - due), signals.geometry.kind != PATCH)
        return Plan.merge(head, signals.size)
