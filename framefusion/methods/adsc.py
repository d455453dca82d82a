"""ADSC's uniform-stride rule: drop visual tokens at even distances, at several layers of the language model.

Paper: ADSC, https://arxiv.org/abs/2602.12618. The paper trains the model (LoRA) to live with the rule; here the rule is
applied to a model as it is.

Differs from the published code: none was at hand; the layers and the ratio below are our own choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from framefusion.core.method import Method, MethodFacts, Signals, Stage
from framefusion.core.ops.selection import evenly_spaced
from framefusion.core.options import Keep, Layer, Share
from framefusion.core.plan import Plan
from framefusion.core.progressive import ProgressiveStage, Steps


@dataclass(frozen=True)
class ADSC(Method):
    """At each step keep every s-th patch in prompt order, s being the ratio of what is there to what may stay.

    Args:
        keep: what is left of each clip's patches after the last step, a fraction in (0, 1] or a number; every step
            keeps the same share of what it finds.
        layers: decoder layers before which tokens go, ascending from 0; None takes a quarter, a half and three quarters
            of the model's depth.
        shares: fraction of the first count that is left after each step, in place of `keep` and equal shares.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.ADSC(keep=0.125)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 64)
    """

    keep: Keep = 0.125
    layers: tuple[Layer, ...] | None = None
    shares: tuple[Share, ...] | None = None

    facts = MethodFacts(
        name="adsc",
        title="ADSC",
        paper="https://arxiv.org/abs/2602.12618",
        summary="keeps tokens at even distances, fewer at each of several layers; its trained part is left out",
        stage="before several layers",
    )

    def check_options(self) -> None:
        self._steps()

    def stages(self) -> tuple[Stage, ...]:
        return (ProgressiveStage(self._steps(), self.decide, needs=frozenset()),)

    def _steps(self) -> Steps:
        return Steps(self.keep, self.layers, published=(1, 2, 3), depth=4, shares=self.shares, first=0)

    def decide(self, signals: Signals, count: int) -> Plan:
        """The plan that leaves `count` patches of one clip, from its `signals`."""
        return Plan.select(evenly_spaced(count, len(signals), signals.size.device), len(signals))
