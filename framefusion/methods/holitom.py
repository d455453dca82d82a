"""HoliTom, inner stage: in the language model, merge the least attended visual tokens into the kept ones.

Paper: HoliTom, https://arxiv.org/abs/2505.21334. This file holds the inner stage only; the outer one, which merges
along time before the language model, needs the vision tower's attention.

Differs from the published code: unless `strict=True`, a kept token becomes the mean of all originals it stands for (the
code halves it with every token it takes in, so that the last ones prevail); every clip keeps its own share; and no
layer's own attention is changed to get a score.
"""

from __future__ import annotations

from dataclasses import dataclass

from framefusion.core.method import Method, MethodFacts, Signals, Stage
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import AttendedLayer, Keep
from framefusion.core.plan import Plan, halving_shares
from framefusion.core.progressive import ProgressiveStage, Steps


@dataclass(frozen=True)
class HoliTom(Method):
    """Keep the patches the last query attends to most; each other one joins the kept one nearest to it in direction.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; 1 - r of the published scripts.
        layer: decoder layer before which the others merge; None takes the 18 of 28 of the published scripts, scaled to
            the model's depth.
        strict: halve a kept token with every token it takes in, one after the other, as published.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.HoliTom(keep=0.5)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 256)
    """

    keep: Keep = 0.5
    layer: AttendedLayer | None = None
    strict: bool = False
    proportional_attention: bool = False

    facts = MethodFacts(
        name="holitom",
        title="HoliTom (inner stage)",
        paper="https://arxiv.org/abs/2505.21334",
        summary="merges the tokens the last query attends to least into the most similar kept ones",
        stage="before a layer",
        query_aware=True,
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (ProgressiveStage(self.steps(), self.decide, needs=frozenset({"hidden", "attention"})),)

    def steps(self) -> Steps:
        """Where tokens go, and how many are left there."""
        return Steps(self.keep, None if self.layer is None else (self.layer,), published=(18,), depth=28)

    def decide(self, signals: Signals, count: int) -> Plan:
        """The plan that leaves `count` patches of one clip, from its `signals`."""
        keep = highest(signals.attention(1), count)
        direction = unit_rows(signals.hidden())
        head = keep[(direction @ direction[keep].T).argmax(1)]
        head[keep] = keep
        return Plan.merge(head, halving_shares(head) if self.strict else signals.size)
