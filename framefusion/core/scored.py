"""Base classes of methods with the budget `keep`: a subclass says what stays or merges, the count is handled here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from framefusion.core.method import Method, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import highest
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.options import Keep


class BudgetedMethod(Method):
    """A method that brings each clip down to a number of tokens known beforehand, by merging or pruning.

    A subclass declares the option `keep` and implements `plan`. It acts before the decoder layer of its option
    `layer`, before layer 0 if it has none; another place is a matter of `stages`.

    `uses` names the signals that `plan` reads, see `Signals`.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from framefusion.core.options import Keep
        >>> @dataclass(frozen=True)
        ... class IntoTheFirst(ff.BudgetedMethod):
        ...     keep: Keep = 0.3
        ...     facts = ff.MethodFacts("into_the_first", "Into the first", "", "merges what is left", "before layer 0")
        ...     def plan(self, signals, count):
        ...         head = torch.arange(len(signals), device=signals.size.device)
        ...         head[count:] = 0
        ...         return ff.Plan.merge(head, signals.size)
        >>> with ff.reduce(model, IntoTheFirst(keep=100)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens
        100
    """

    uses: ClassVar[frozenset[str]] = frozenset({"hidden"})

    if TYPE_CHECKING:

        @property
        def keep(self) -> Keep: ...

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(getattr(self, "layer", 0)), self.decide, needs=self.uses),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, or for one picture in front of the projector; keeping everything computes nothing.

        Args:
            signals: of that clip or picture.
        """
        total = len(signals)
        count = self.count(signals)
        if count == total:
            return Plan.identity(total, signals.size.device)
        return self.plan(signals, count)

    def count(self, signals: Signals) -> int:
        """Patches to keep of the N that `signals` shows: `keep`, rounded to the nearest number, at least one."""
        return kept_count(self.keep, len(signals))

    def plan(self, signals: Signals, count: int) -> Plan:
        """What becomes of every patch.

        Args:
            signals: of one clip, or of one picture in front of the projector.
            count: how many tokens stay, fewer than there are.
        """
        raise NotImplementedError


class SelectingMethod(BudgetedMethod):
    """A method that keeps some patches of each clip unchanged and prunes the others.

    A subclass declares the option `keep` and implements `select`; where it acts and what it reads is as for
    `BudgetedMethod`.

    Shapes:
        `select` returns (count,) int64 indices into the N patches of a clip that `signals` shows.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from framefusion.core.options import Keep
        >>> @dataclass(frozen=True)
        ... class FirstPatches(ff.SelectingMethod):
        ...     keep: Keep = 0.3
        ...     facts = ff.MethodFacts("first", "First patches", "", "keeps the first patches", "before layer 0")
        ...     def select(self, signals, count):
        ...         return torch.arange(count, device=signals.size.device)
        >>> with ff.reduce(model, FirstPatches(keep=100)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens
        100
    """

    def plan(self, signals: Signals, count: int) -> Plan:
        return Plan.select(self.select(signals, count), len(signals))

    def select(self, signals: Signals, count: int) -> Tensor:
        """Choose the patches that stay.

        Args:
            signals: of one clip, or of one picture in front of the projector.
            count: how many stay, fewer than there are.

        Returns:
            (count,) int64, their indices, in any order.
        """
        raise NotImplementedError


class ScoredMethod(SelectingMethod):
    """A method that gives every patch a score and keeps the highest ones; the earlier one of two equal patches.

    A subclass is a frozen dataclass with the option `keep`, its `facts`, and `score(signals)`.

    Shapes:
        `score` returns (N,) float, one for each of the N patches of a clip that `signals` shows.

    Example:
        >>> from dataclasses import dataclass
        >>> from framefusion.core.options import Keep
        >>> @dataclass(frozen=True)
        ... class LargestNorm(ff.ScoredMethod):
        ...     keep: Keep = 0.3
        ...     facts = ff.MethodFacts("largest_norm", "Largest norm", "", "keeps long embeddings", "before layer 0")
        ...     def score(self, signals):
        ...         return signals.hidden().float().norm(dim=-1)
        >>> with ff.reduce(model, LargestNorm(keep=0.25)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    def select(self, signals: Signals, count: int) -> Tensor:
        return highest(self.score(signals), count)

    def score(self, signals: Signals) -> Tensor:
        """(N,) float, higher for patches that should stay, from the `signals` of one clip or picture."""
        raise NotImplementedError
