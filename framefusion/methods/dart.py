"""DART: keep a few pivots and the tokens that repeat them least.

Paper: DART, "Stop Looking for Important Tokens", https://arxiv.org/abs/2502.11494.

Differs from the published code: the budget counts the pivots and is met exactly (the code adds pivots on top and rounds
each pivot's share down); pivots go from the largest key norm to the smallest, visual ones first (the code follows the
order of a Python set); hidden states are compared before the model's final norm; every clip is pruned by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from framefusion.core.errors import OptionError
from framefusion.core.method import MethodFacts, Point, Scope, Setting, Signals, Stage, Stream, before
from framefusion.core.ops.attention import question_rows
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import AttendedLayer, Count, Interval, Keep
from framefusion.core.plan import Plan
from framefusion.core.scored import BudgetedMethod
from framefusion.core.stage import decide_on_patches

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DART(BudgetedMethod):
    """Duplication with respect to pivots chosen by the L1 norm of their keys.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number, pivots included; a fraction is rounded
            down.
        layer: decoder layer, at least 1, before which the others go; the keys are those of the attention before it. In
            hybrid models it waits for the first attention layer.
        visual_pivots: how many tokens of the clip the others are compared with.
        text_pivots: how many tokens of the text behind the clip they are compared with as well.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.DART(keep=0.222, layer=2)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 113)
    """

    keep: Keep = 0.222
    layer: AttendedLayer = 2
    visual_pivots: Count = 4
    text_pivots: Annotated[int, Interval("[0, inf)")] = 4

    facts = MethodFacts(
        name="dart",
        title="DART",
        paper="https://arxiv.org/abs/2502.11494",
        summary="keeps a few pivots and the tokens that repeat them least",
        stage="before a layer",
        query_aware=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (AtFirstKeys(self),)

    def count(self, signals: Signals) -> int:
        return kept_count(self.keep, len(signals), int)

    def plan(self, signals: Signals, count: int) -> Plan:
        unit, text = unit_rows(signals.hidden()), unit_rows(question_rows(signals.text(), signals.asks()))
        # The keys lie where the layer before ran, which may be another device.
        visual = highest(_strength(signals.keys()), min(self.visual_pivots, count)).to(unit.device)
        strength = _strength(question_rows(signals.text_keys(), signals.asks()))
        spoken = text[highest(strength, self.text_pivots).to(text.device)]
        keep = _unlike(unit, torch.cat([unit[visual], spoken]), visual, count)
        return Plan.select(keep, len(signals))


@dataclass(frozen=True)
class AtFirstKeys:
    """Acts once, before the method's layer or the first one after it that has seen an attention layer."""

    method: DART

    stream: ClassVar[Stream] = "prompt"
    scope: ClassVar[Scope] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "text", "asks", "keys", "text_keys"})

    def points(self, layers: int) -> Iterable[Point]:
        return (before(layer) for layer in range(self.method.layer, layers))

    def start(self, setting: Setting) -> bool:
        if self.method.layer >= setting.layers:
            raise OptionError(
                f"this model has no layer {self.method.layer}", f"it has {setting.layers}", "choose an earlier layer"
            )
        return False

    def step(self, done: bool, signals: Signals) -> tuple[Plan | None, bool]:
        if done or not signals.has_attention:
            return None, done
        return decide_on_patches(signals, self.method.decide, by_clip=True), True


def _strength(keys: Tensor) -> Tensor:
    """(n,) L1 norm over all heads. keys: (n, H_kv, d)."""
    return keys.flatten(1).to(torch.float32).abs().sum(1)


def _unlike(unit: Tensor, pivots: Tensor, taken: Tensor, count: int) -> Tensor:
    """`taken` and, for each pivot in turn, the rows of `unit` (N, D) least like it, `count` in all.

    The pivots share what is left evenly, the first ones one more where it does not divide.
    """
    free = torch.ones(len(unit), dtype=torch.bool, device=unit.device)
    free[taken] = False
    share, more = divmod(count - len(taken), len(pivots))
    picks = [taken]
    for number, pivot in enumerate(pivots):
        unlike = (-(unit @ pivot)).masked_fill(~free, float("-inf"))
        picks.append(highest(unlike, share + int(number < more)))
        free[picks[-1]] = False
    return torch.cat(picks)
