"""FrameFusion: merge tokens that repeat along time, then prune the unimportant ones.

Paper: https://arxiv.org/abs/2501.01986. Its page, `docs/methods/framefusion.md`, lists what differs from the published
code (weighted means, real depth, text never pruned, clips kept apart, a budget that holds); `strict=True` is that code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.core.method import Method, MethodFacts, Point, Scope, Setting, Signals, Stage, after_attention, before
from framefusion.core.ops.budget import removable_share
from framefusion.core.options import Cosine, Count, Mix, Share
from framefusion.core.plan import Plan
from framefusion.core.stage import InDecoder
from framefusion.core.temporal_pairs import Pairs, pairs_along_time

if TYPE_CHECKING:
    from framefusion.models.family import Family

DEFAULT_THRESHOLD, WEIGHTED_THRESHOLD = 0.6, 0.4
"""Where a family has no published one, and the highest where merged tokens have their weight: a token then loses less
when it is merged than when the pruning takes it, so more is merged.
"""
PUBLISHED_LAYERS = 28


@dataclass(frozen=True)
class FrameFusion(Method):
    """Cascaded similarity merging, then importance pruning (paper, section 3).

    Args:
        cost: mean fraction of the visual tokens that the layers read, (0, 1]; 1 is the identity.
        similarity_lower_bound: cosine from which a token joins the one at its place in the previous frame; None takes
            the value known for the model's family, else 0.6, but 0.4 at most where merged tokens have their weight.
            `framefusion.calibrate` computes one for any model.
        ratio_lower_bound: merging stops once less than this share of the tokens merges in one call.
        strict: reproduce the published code to the letter.
        query_rows: query rows averaged for the pruning score; None means 1, or in strict mode what the published code
            has.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.FrameFusion(cost=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    cost: Share = 0.3
    similarity_lower_bound: Cosine | None = None
    ratio_lower_bound: Mix = 0.1
    strict: bool = False
    query_rows: Count | None = None
    proportional_attention: bool = False

    facts = MethodFacts(
        name="framefusion",
        title="FrameFusion",
        paper="https://arxiv.org/abs/2501.01986",
        summary="merges tokens that repeat along time, then prunes what the last query attends to least",
        stage="before layer 0, then after the attention of each layer until pruned",
        query_aware=True,
        count="data",
        merges=True,
        budget="cost",
    )

    def for_family(self, family: Family) -> FrameFusion:
        known = (self.similarity_lower_bound, self._threshold_of(family), self.default_threshold)
        rows = self.query_rows or (family.published_query_rows if self.strict else 1)
        return replace(self, similarity_lower_bound=next(t for t in known if t is not None), query_rows=rows)

    def notes(self, family: Family) -> list[str]:
        known = self.similarity_lower_bound is not None or family.similarity_lower_bound is not None
        whose = "for weighted tokens" if self.weighs else "LLaVA-Video's"
        note = f"{self.default_threshold} is {whose}, framefusion.calibrate finds this model's"
        return [] if known else [f"no similarity_lower_bound is published for {family.name}: {note}"]

    def _threshold_of(self, family: Family) -> float | None:
        published = family.similarity_lower_bound
        return published if published is None or not self.weighs else min(published, WEIGHTED_THRESHOLD)

    @property
    def default_threshold(self) -> float:
        """Of a family that has none."""
        return WEIGHTED_THRESHOLD if self.weighs else DEFAULT_THRESHOLD

    def stages(self) -> tuple[Stage, ...]:
        return (Cascade(self),)


@dataclass(frozen=True)
class Progress:
    """How far the cascade of one prompt row has come. removed: share of tokens each merging call took out."""

    layers: int
    removed: tuple[float, ...] = ()
    merging: bool = True
    pruning: bool = True


@dataclass(frozen=True)
class Cascade(InDecoder):
    """The one stage of FrameFusion."""

    method: FrameFusion
    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "attention"})
    borrows: ClassVar[bool] = True

    @property
    def scope(self) -> Scope:
        return "span" if self.method.strict else "visual"

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0), *(after_attention(layer) for layer in range(layers)))

    def start(self, setting: Setting) -> Progress:
        return Progress(PUBLISHED_LAYERS if self.method.strict else setting.layers)

    def step(self, state: Progress, signals: Signals) -> tuple[Plan | None, Progress]:
        if self.method.cost == 1.0 and not self.method.strict:
            return Plan.identity(len(signals), signals.size.device), state
        if not state.pruning:
            return None, state
        last_chance = not self.method.strict and signals.point == after_attention(state.layers - 2)
        if state.merging and not last_chance:
            return self._merge(state, signals)
        if signals.has_attention:
            return self._prune(state, signals)
        if last_chance:
            pairs = pairs_along_time(signals, self.method.strict)
            return self._merge_to_budget(state, pairs, pairs.counts(pairs.similarity > 0.0)[1])
        return None, replace(state, removed=(*state.removed, 0.0))

    def _merge(self, state: Progress, signals: Signals) -> tuple[Plan, Progress]:
        pairs = pairs_along_time(signals, self.method.strict)
        threshold = self.method.similarity_lower_bound
        joins = pairs.similarity >= (self.method.default_threshold if threshold is None else threshold)
        joining, candidates = pairs.counts(joins)
        share = joining / max(1, joins.numel())
        if share >= self._limit(state):
            return self._merge_to_budget(state, pairs, candidates)
        state = replace(state, removed=(*state.removed, share), merging=share >= self.method.ratio_lower_bound)
        return pairs.plan(joins, joining), state

    def _merge_to_budget(self, state: Progress, pairs: Pairs, candidates: int) -> tuple[Plan, Progress]:
        """Merge the most similar tokens, exactly as many as the budget asks for; nothing is pruned afterwards."""
        count = int(self._limit(state) * pairs.similarity.numel())
        count = count if self.method.strict else min(count, candidates)
        return pairs.plan(pairs.most_similar(count), count), replace(state, merging=False, pruning=False)

    def _prune(self, state: Progress, signals: Signals) -> tuple[Plan, Progress]:
        score = signals.attention(self.method.query_rows or 1)
        count = max(1, round(len(signals) * (1.0 - self._limit(state))))
        return Plan.select(torch.topk(score, count).indices, len(signals)), replace(state, merging=False, pruning=False)

    def _limit(self, state: Progress) -> float:
        return removable_share(state.removed, self.method.cost, state.layers)
