"""FrameFusion: merge tokens that repeat along time, then prune the unimportant ones.

Paper: FrameFusion, https://arxiv.org/abs/2501.01986.

Differs from the published code, unless `strict=True`: merged tokens become the mean of all originals they stand for
(the code takes repeated means of means); the budget counts the layers of this model (the code always 28); pruning drops
visual tokens only (the code also drops text between frames); tokens of different clips never merge; when the cascade is
still merging at the last layer that can profit, it prunes there so that the budget holds; a budget that cannot be met
any more keeps one token instead of raising; in hybrid models pruning waits for the first attention layer, and if none
comes in time the most similar tokens merge until the budget holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.errors import OptionError
from framefusion.layout import TEXT, Geometry
from framefusion.method import (
    Method,
    MethodFacts,
    Point,
    Scope,
    Setting,
    Signals,
    Stage,
    Stream,
    after_attention,
    before,
)
from framefusion.ops.budget import removable_share
from framefusion.ops.merge import heads_of_runs
from framefusion.ops.similarity import NO_PREDECESSOR, similarity_to_previous, time_order
from framefusion.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.models.family import Family

DEFAULT_THRESHOLD = 0.6
PUBLISHED_LAYERS = 28


@dataclass(frozen=True)
class FrameFusion(Method):
    """Cascaded similarity merging, then importance pruning (paper, section 3).

    cost: mean fraction of the visual tokens that the layers read, (0, 1]; 1 is the identity.
    similarity_lower_bound: cosine from which a token joins the one at its place in the previous frame; None takes the
        value known for the model's family, else 0.6. `framefusion.calibrate` computes one for any model.
    ratio_lower_bound: merging stops once less than this share of the tokens merges in one call.
    strict: reproduce the published code to the letter.
    query_rows: query rows averaged for the pruning score; None means 1, and in strict mode what the published adapter
        of the family uses.
    """

    cost: float = 0.3
    similarity_lower_bound: float | None = None
    ratio_lower_bound: float = 0.1
    strict: bool = False
    query_rows: int | None = None

    facts: ClassVar[MethodFacts] = MethodFacts(
        name="framefusion",
        title="FrameFusion",
        paper="https://arxiv.org/abs/2501.01986",
        summary="merges tokens that repeat along time, then prunes what the last query attends to least",
        stage="before layer 0, then after the attention of each layer until pruned",
        query_aware=True,
        count="data",
        merges=True,
        budget="cost",
        needs=("hidden", "attention"),
    )

    def __post_init__(self) -> None:
        if not 0.0 < self.cost <= 1.0:
            raise OptionError(
                f"cost must be in (0, 1], got {self.cost}", hint="0.3 keeps the work of 30 % of the tokens"
            )
        if self.similarity_lower_bound is not None and not -1.0 <= self.similarity_lower_bound <= 1.0:
            raise OptionError(
                f"similarity_lower_bound is a cosine in [-1, 1], got {self.similarity_lower_bound}",
                hint="leave it out for the value known for the model, or take one from framefusion.calibrate",
            )
        if not 0.0 <= self.ratio_lower_bound <= 1.0:
            raise OptionError(
                f"ratio_lower_bound must be in [0, 1], got {self.ratio_lower_bound}", hint="the paper uses 0.1"
            )
        if self.query_rows is not None and self.query_rows < 1:
            raise OptionError(
                f"query_rows must be at least 1, got {self.query_rows}", hint="leave it out for the last row alone"
            )

    def for_family(self, family: Family) -> FrameFusion:
        threshold, rows = self.similarity_lower_bound, self.query_rows
        if threshold is None:
            known = family.similarity_lower_bound
            threshold = DEFAULT_THRESHOLD if known is None else known
        if rows is None:
            rows = family.published_query_rows if self.strict else 1
        return replace(self, similarity_lower_bound=threshold, query_rows=rows)

    def notes(self, family: Family) -> list[str]:
        if self.similarity_lower_bound is not None or family.similarity_lower_bound is not None:
            return []
        return [
            f"no threshold is published for {family.name}; similarity_lower_bound={DEFAULT_THRESHOLD} is the paper's "
            "for LLaVA-Video, and framefusion.calibrate computes one for this model"
        ]

    def stages(self) -> tuple[Stage, ...]:
        return (Cascade(self),)


@dataclass(frozen=True)
class Progress:
    """How far the cascade of one prompt row has come.

    removed: share of tokens each merging call took out.
    """

    layers: int
    removed: tuple[float, ...] = ()
    merging: bool = True
    pruning: bool = True


@dataclass(frozen=True)
class Pairs:
    """Every visual token with its predecessor in time.

    visual: (N,) indices of the visual tokens in the stage's scope. order: (N,) permutation that lines them up along
    time. similarity: (N,) cosine with the predecessor, in that order.
    """

    visual: Tensor
    order: Tensor
    similarity: Tensor


@dataclass(frozen=True)
class Cascade:
    """The one stage of FrameFusion."""

    method: FrameFusion

    stream: ClassVar[Stream] = "prompt"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "attention"})

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
            return self._merge_to_budget(state, signals)
        return None, replace(state, removed=(*state.removed, 0.0))

    def _merge(self, state: Progress, signals: Signals) -> tuple[Plan, Progress]:
        pairs = self._pairs(signals)
        joins = pairs.similarity >= self.threshold
        share = int(joins.sum()) / max(1, joins.numel())
        limit = removable_share(state.removed, self.method.cost, state.layers)
        if share >= limit:
            return self._merge_to_budget(state, signals, pairs)
        state = replace(state, removed=(*state.removed, share), merging=share >= self.method.ratio_lower_bound)
        return self._plan(pairs, joins, signals), state

    def _merge_to_budget(self, state: Progress, signals: Signals, pairs: Pairs | None = None) -> tuple[Plan, Progress]:
        """Merge the most similar tokens, exactly as many as the budget asks for; nothing is pruned afterwards."""
        pairs = self._pairs(signals) if pairs is None else pairs
        limit = removable_share(state.removed, self.method.cost, state.layers)
        count = int(limit * pairs.similarity.numel())
        if not self.method.strict:
            count = min(count, int((pairs.similarity > NO_PREDECESSOR).sum()))
        joins = torch.zeros_like(pairs.similarity, dtype=torch.bool)
        joins[torch.topk(pairs.similarity, count).indices] = True
        return self._plan(pairs, joins, signals), replace(state, merging=False, pruning=False)

    def _prune(self, state: Progress, signals: Signals) -> tuple[Plan, Progress]:
        score = signals.attention(self.method.query_rows or 1)
        limit = removable_share(state.removed, self.method.cost, state.layers)
        count = max(1, round(len(signals) * (1.0 - limit)))
        keep = torch.topk(score, min(count, len(signals))).indices
        return Plan.select(keep, len(signals)), replace(state, merging=False, pruning=False)

    def _pairs(self, signals: Signals) -> Pairs:
        visual = (signals.geometry.kind != TEXT).nonzero().flatten()
        place = self._places(signals.geometry[visual])
        order = time_order(place)
        similarity = similarity_to_previous(signals.hidden()[visual], place, order, self.method.strict)
        return Pairs(visual, order, similarity)

    def _plan(self, pairs: Pairs, joins: Tensor, signals: Signals) -> Plan:
        head = torch.arange(len(signals), device=joins.device)
        head[pairs.visual] = pairs.visual[heads_of_runs(joins, pairs.order)]
        size = torch.ones_like(signals.size) if self.method.strict else signals.size
        return Plan.merge(head, size)

    @property
    def threshold(self) -> float:
        given = self.method.similarity_lower_bound
        return DEFAULT_THRESHOLD if given is None else given

    def _places(self, geometry: Geometry) -> Tensor:
        """(N,) number of each token's place: equal for one patch of one clip in different frames."""
        if self.method.strict or len(geometry) == 0:
            return geometry.patch
        return geometry.clip * (int(geometry.patch.max()) + 1) + geometry.patch
