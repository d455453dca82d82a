"""SparseVLM: let the words that look at the picture rate the visual tokens, at three layers.

Paper: SparseVLM, https://arxiv.org/abs/2410.04417.

Differs from the published code: token counts follow `keep` at any size (the code has tables for four budgets), recycled
clusters count towards them and stay at their centre's place (the code appends them after the other tokens), and
survivors keep their own positions. The gravity correction and the choice of heads of its second version are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.core.method import Method, MethodFacts, Point, Scope, Setting, Signals, Stage, Stream, before
from framefusion.core.ops.attention import text_raters
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.selection import highest
from framefusion.core.options import AttendedLayer, Keep, Share
from framefusion.core.plan import Plan
from framefusion.core.progressive import Progress, ProgressiveStage, Steps
from framefusion.core.stage import decide_on_patches, join

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SparseVLM(Method):
    """At each step, keep the patches that the rating words of the question attend to most.

    Args:
        keep: what is left of each clip's patches after the last step, a fraction in (0, 1] or a number; every step
            keeps the same share of what it finds.
        layers: decoder layers before which the steps act, ascending from 1; None takes 3, 7 and 16 of 32, that is after
            the published layers 2, 6 and 15, scaled to the model's depth.
        shares: fraction of the first count that is left after each step, in place of `keep` and equal shares.
        recycle: let the better 30 % of the tokens dropped at a step live on in a few cluster means, within the same
            count.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.SparseVLM(keep=0.2)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 102)
    """

    keep: Keep = 0.2
    layers: tuple[AttendedLayer, ...] | None = None
    shares: tuple[Share, ...] | None = None
    recycle: bool = False
    proportional_attention: bool = False

    facts = MethodFacts(
        name="sparsevlm",
        title="SparseVLM",
        paper="https://arxiv.org/abs/2410.04417",
        summary="keeps the tokens that the question's picture words attend to most, in three steps",
        stage="before layer 0 to choose the words, then before several layers",
        query_aware=True,
        merges=True,
    )

    def check_options(self) -> None:
        self.steps()

    def stages(self) -> tuple[Stage, ...]:
        return (Rated(self),)

    def steps(self) -> Steps:
        """Where tokens go, and how many are left there."""
        return Steps(self.keep, self.layers, published=(3, 7, 16), depth=32, shares=self.shares)

    def decide(self, signals: Signals, count: int, raters: Tensor) -> Plan:
        """Leave `count` patches of the clip of `signals`. raters: (A,) bool, words of the question that rate."""
        score = rated(signals, raters)
        if self.recycle:
            return recycled(score, count, signals.hidden(), signals.size)
        return Plan.select(highest(score, count), len(signals))


@dataclass(frozen=True)
class Ratings:
    """raters: per clip, which of the question's words rate it. progress: state of the steps."""

    progress: Progress
    raters: dict[int, Tensor]


@dataclass(frozen=True)
class Rated:
    """Chooses the raters before layer 0 and drops tokens at the steps."""

    method: SparseVLM

    stream: ClassVar[Stream] = "prompt"
    scope: ClassVar[Scope] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "text", "attention", "text_attention"})

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0), *self._progressive({}).points(layers))

    def start(self, setting: Setting) -> Ratings:
        return Ratings(self._progressive({}).start(setting), {})

    def step(self, state: Ratings, signals: Signals) -> tuple[Plan | None, Ratings]:
        if signals.point == before(0):
            return None, Ratings(state.progress, _raters_of_clips(signals))
        plan, progress = self._progressive(state.raters).step(state.progress, signals)
        return plan, Ratings(progress, state.raters)

    def _progressive(self, raters: dict[int, Tensor]) -> ProgressiveStage:
        return ProgressiveStage(
            self.method.steps(),
            lambda clip, count: self.method.decide(clip, count, raters[int(clip.geometry.clip[0])]),
        )


def _raters_of_clips(signals: Signals) -> dict[int, Tensor]:
    raters = {}

    def rate(clip: Signals) -> Plan:
        raters[int(clip.geometry.clip[0])] = text_raters(clip.hidden(), clip.text()[clip.asks()])
        return Plan.identity(len(clip), clip.size.device)

    decide_on_patches(signals, rate, by_clip=True)
    return raters


def rated(signals: Signals, raters: Tensor) -> Tensor:
    """(N,) attention of the rating words, averaged over heads and words; of the last query where there are none.

    Words that ask only because the last visual tokens are gone come first; they are not among `raters`.
    """
    newly = int(signals.asks().sum()) - len(raters)
    rows = signals.text_attention().mean(0)[newly:]
    chosen = rows[raters.to(rows.device)[: len(rows)]]
    return chosen.mean(0) if len(chosen) else signals.attention(1)


SHARE = 0.3
CLUSTER_SIZE = 10


def recycled(score: Tensor, count: int, hidden: Tensor, size: Tensor) -> Plan:
    """`count` tokens: the best by (N,) score, and centres of clusters of the better 30 % of the rest (SparseVLM).

    hidden: (N, D). size: (N,) originals each token carries. A centre becomes the mean of its cluster; there is one
    cluster for about ten recycled tokens, as far as `count` has room beside the best token.
    """
    total = len(score)
    order = highest(score, total)
    pool = int(SHARE * (total - count)) + 1
    clusters = min(pool // CLUSTER_SIZE + 1, count - 1)
    if clusters < 1:
        return Plan.select(order[:count], total)
    best, rest = order[: count - clusters], order[count - clusters :]
    rest = rest[: max(pool, clusters)].sort().values
    centres, label = density_clusters(hidden[rest], clusters)
    alive = torch.cat([best, rest]).sort().values
    head = torch.arange(total, device=score.device)
    head[rest] = rest[centres][label]
    return join(total, [(alive, Plan.merge(torch.searchsorted(alive, head[alive]), size[alive]))])
