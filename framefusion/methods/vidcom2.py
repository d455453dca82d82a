"""VidCom2: keep the tokens that stand out from their video and their frame, more of them in frames that stand out.

Paper: VidCom2, https://arxiv.org/abs/2505.14454.

Differs from the published code: the count is exact (there, each frame's is rounded and raised to at least one): surplus
tokens of highest similarity go, missing ones of lowest similarity come; statistics run in float32, frames may differ in
size, and row newlines follow their row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from framefusion.core.layout import frame_numbers
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import lowest_of_each
from framefusion.core.ops.weighted import group_means
from framefusion.core.options import Keep
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = 0.5
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)
TEMPERATURE = 0.01


@dataclass(frozen=True)
class VidCom2(Method):
    """Two-fold outlier selection with a budget per frame.

    Args:
        keep: fraction of the patches of each clip, (0, 1], rounded to the nearest count, or their number; default 0.25.
            1.0 is the identity.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.VidCom2(keep=0.25)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    keep: Keep = 0.25

    facts = MethodFacts(
        name="vidcom2",
        title="VidCom2",
        paper="https://arxiv.org/abs/2505.14454",
        summary="keeps the tokens least like the mean of their video and of their frame",
        stage="before layer 0",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        total = len(signals)
        return Plan.select(_exactly(kept_count(self.keep, total), *self.choose(signals)), total)

    def choose(self, signals: Signals) -> tuple[Tensor, Tensor]:
        """What the frames' shares choose, before their number is made exact.

        Args:
            signals: of one clip.

        Returns:
            (N,) bool, the tokens that are chosen, and (N,), their likeness to video and frame.
        """
        frame = frame_numbers(signals.geometry)
        tokens = torch.bincount(frame)
        direction = normalize(_steady_channels(signals.hidden().float()), dim=-1)
        to_video = _likeness(direction, direction.mean(0))
        to_frame = _likeness(direction, group_means(direction, frame, tokens.numel())[frame])
        count = kept_count(self.keep, len(signals))
        share = self._shares(group_means(to_video, frame, tokens.numel()), count / len(signals))
        quota = (share * tokens).round().clamp(min=1).long()
        likeness = to_video + to_frame
        return lowest_of_each(likeness, frame, quota), likeness

    def _shares(self, likeness: Tensor, mean_share: float) -> Tensor:
        """(F,) share of its tokens that each frame keeps. likeness: (F,) of the frames to their video."""
        weight = (-likeness / TEMPERATURE).softmax(0)
        base = mean_share if isinstance(self.keep, int) else self.keep
        return (base * (1 + weight - weight.mean())).clamp(max=1)


def _steady_channels(hidden: Tensor) -> Tensor:
    """The half of the channels that varies least over the tokens: (N, D) -> (N, D // 2)."""
    channels = hidden.shape[-1]
    order = hidden.var(0, unbiased=False).sort(stable=True).indices
    return hidden[:, order[: max(1, int(CHANNELS * channels))]]


def _likeness(direction: Tensor, centre: Tensor) -> Tensor:
    """(N,) Gaussian similarity to the centre, summed over scales."""
    distance = (direction - centre).square().sum(-1)
    scales = torch.tensor(SCALES, device=direction.device)
    return torch.exp(-distance[:, None] / (2 * scales)).sum(-1)


def _exactly(count: int, chosen: Tensor, likeness: Tensor) -> Tensor:
    """(count,) tokens: the chosen ones first, those of lowest likeness before others."""
    order = likeness.sort(stable=True).indices
    rejected = (~chosen[order]).long()
    return order[rejected.sort(stable=True).indices[:count]]
