"""PyramidDrop: keep fewer and fewer visual tokens, stage by stage through the language model.

Paper: PyramidDrop, https://arxiv.org/abs/2410.17247.

Differs from the published code: the score is the attention the layer before a stage has just paid (the code projects
queries and keys of the stage's own layer once more), and survivors keep their own positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from framefusion.core.method import Method, MethodFacts, Signals, Stage
from framefusion.core.ops.selection import highest
from framefusion.core.options import AttendedLayer, Keep, Share
from framefusion.core.plan import Plan
from framefusion.core.progressive import ProgressiveStage, Steps


@dataclass(frozen=True)
class PyramidDrop(Method):
    """At each stage, keep the patches with the highest attention of the last instruction token.

    Args:
        keep: what is left of each clip's patches after the last stage, a fraction in (0, 1] or a number. Every stage
            keeps the same share of what it finds, so 0.125 over three stages is the paper's lambda of 0.5.
        layers: decoder layers before which the stages act, ascending from 1; None takes the published 8, 16 and 24 of
            32, scaled to the model's depth.
        shares: fraction of the first count that is left after each stage, in place of `keep` and equal shares.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.PyramidDrop(keep=0.125)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 64)
    """

    keep: Keep = 0.125
    layers: tuple[AttendedLayer, ...] | None = None
    shares: tuple[Share, ...] | None = None

    facts = MethodFacts(
        name="pyramiddrop",
        title="PyramidDrop",
        paper="https://arxiv.org/abs/2410.17247",
        summary="drops the tokens the last query attends to least, in three stages",
        stage="before several layers",
        query_aware=True,
    )

    def check_options(self) -> None:
        self.steps()

    def stages(self) -> tuple[Stage, ...]:
        return (ProgressiveStage(self.steps(), self.decide),)

    def steps(self) -> Steps:
        """Where tokens go, and how many are left there."""
        return Steps(self.keep, self.layers, published=(8, 16, 24), depth=32, shares=self.shares, rounding=int)

    def decide(self, signals: Signals, count: int) -> Plan:
        """The plan that leaves `count` patches of one clip, from its `signals`."""
        return Plan.select(highest(signals.attention(1), count), len(signals))
