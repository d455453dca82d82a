"""TemporalWard: merge runs of one place over time, always where that loses least, until the budget is met.

Paper: none, this is a method of this package; the criterion is that of Ward (Hierarchical grouping to optimize an
objective function, Journal of the American Statistical Association 58, 1963).

Differs from the published code: there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch.nn.functional import normalize

from framefusion.core.layout import frame_groups
from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.similarity import time_order
from framefusion.core.ops.ward import ward_runs
from framefusion.core.options import Cosine, Interval, Keep
from framefusion.core.plan import Plan
from framefusion.core.scored import BudgetedMethod

if TYPE_CHECKING:
    from torch import Tensor

# In a clip that stands still time alone decides.
SMALLEST_STEP = 1e-6


@dataclass(frozen=True)
class TemporalWard(BudgetedMethod):
    """Every place of a clip becomes a chain of runs over time, and each run one token: the mean, at one of its moments.

    Neighbouring runs merge by Ward's criterion, over all places together: next come the two whose means differ least,
    weighed by how many tokens they hold. So what changes keeps many tokens (change), a long run costs more than a short
    one and no place loses its last token while another still has two (coverage), and nothing is dropped.

    Where merged tokens count as many, a frame that repeats an earlier one takes no part of the budget, so that a clip
    that stands still costs little more than one frame.

    Args:
        keep: fraction of the patches of each clip, (0, 1], rounded to the nearest count, or their number; default 0.3.
            1.0 is the identity. Below one token per place, and in pictures, neighbouring places merge in reading order.
        time_weight: how much the distance in time counts, 0 or more; higher cuts the clip more evenly. At 1 the
            `1 / keep` frames of a run of average length are as far apart as a token and the next on average.
        position: which token of a run gives it its place and moment: its first, its middle one (the earlier of two), or
            its last.
        repeated: a frame repeats the last one that was new if the cosine of each of its tokens with the one at its
            place there is at least this; 1 turns this off.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.TemporalWard(keep=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 154)
    """

    keep: Keep = 0.3
    time_weight: Annotated[float, Interval("[0, 1000]")] = 1.0
    position: Literal["first", "middle", "last"] = "first"
    repeated: Cosine = 0.999
    proportional_attention: bool = True

    facts = MethodFacts(
        name="temporal_ward",
        title="Temporal Ward merging",
        paper="",
        summary="merges the runs of each place over time that differ least, until the budget is met",
        stage="before layer 0",
        count="data",
        merges=True,
    )

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip; `count` and `plan` are shown the directions of its hidden states in their place.

        Args:
            signals: of that clip.
        """
        directions = cache(lambda: normalize(signals.hidden().float(), dim=-1))
        return super().decide(replace(signals, hidden=directions))

    def count(self, signals: Signals) -> int:
        """Tokens to keep of the N that `signals` shows: `keep`, and no more than the frames that are new have."""
        count = super().count(signals)
        looks = self.proportional_attention and self.repeated < 1.0 and count < len(signals)
        return min(count, tokens_of_new_frames(signals, self.repeated)) if looks else count

    def plan(self, signals: Signals, count: int) -> Plan:
        order = time_order(signals.geometry.patch)
        place = signals.geometry.patch[order]
        ends = torch.ones_like(place, dtype=torch.bool)
        ends[:-1] = place[1:] != place[:-1]
        starts = ward_runs(
            self._points(signals, order, ends, count / len(signals)), signals.size[order].float(), ends, count
        )
        head = torch.empty_like(order)
        head[order] = order[self._moments(starts)][starts.cumsum(0) - 1]
        return Plan.merge(head, signals.size, count)

    def _moments(self, starts: Tensor) -> Tensor:
        """(K,) for every run, where it stands in the line. starts: (N,) bool, the first token of each."""
        first = starts.nonzero().flatten()
        last = torch.cat([first[1:], first.new_full((1,), len(starts))]) - 1
        return {"first": first, "middle": (first + last) // 2, "last": last}[self.position]

    def _points(self, signals: Signals, order: Tensor, ends: Tensor, share: float) -> Tensor:
        """(N, D + 1) directions of the tokens, and when they were, in the order of `order`.

        ends: (N,) bool, the last token of each place. share: of the tokens that stays.
        """
        direction = signals.hidden()[order]
        steps = (direction[1:] - direction[:-1]).square().sum(-1)[~ends[:-1]]
        step = steps.mean().sqrt() if len(steps) else steps.new_ones(())
        time = signals.geometry.frame[order] * (self.time_weight * share * step.clamp(min=SMALLEST_STEP))
        return torch.cat([direction, time[:, None]], dim=1)


def tokens_of_new_frames(signals: Signals, alike: float) -> int:
    """Of the N tokens of a clip, those of frames of which some token is not `alike` the one at its place in the last
    frame that was new: its cosine with that is less. signals: with directions for hidden states.
    """
    direction, patch = signals.hidden(), signals.geometry.patch

    def repeats(frame: Tensor, last: Tensor) -> bool:
        if not torch.equal(patch[frame], patch[last]):
            return False
        return bool(((direction[frame] * direction[last]).sum(-1) >= alike).all())

    frames = frame_groups(signals.geometry)
    new = frames[:1]
    for frame in frames[1:]:
        if not repeats(frame, new[-1]):
            new.append(frame)
    return sum(map(len, new))
