"""TaylorFrames: keep the frames that lie farthest from where the frames before them lead.

Paper: Swift Sampling, https://arxiv.org/abs/2605.22678, whose residual this is. What the paper does with residuals
beyond taking local maxima, and which features it reads, could not be recovered; the method is named by what it does.

Differs from the published code: none was found. Frames are chosen before layer 0, by the means of their embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.surprise import peaks_first, taylor_residuals
from framefusion.core.ops.weighted import group_sums
from framefusion.core.options import Keep, OneOf
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage


@dataclass(frozen=True)
class TaylorFrames(Method):
    """Keep whole frames that surprise, each more than the frames beside it; a picture is a clip of one frame and stays.

    It says nothing about tokens inside a frame, so it goes in front of any method that does, in a `Chain`.

    Args:
        keep: fraction of the frames of each clip, (0, 1], or the number of frames (not of tokens); default 0.5. 1.0 is
            the identity.
        order: of Taylor's series: 0 expects a frame to be as the one before, 1 to go on like that, 2 to speed up as
            well.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> chain = ff.Chain(ff.TaylorFrames(keep=0.5), ff.DivPrune(keep=0.5))
        >>> with ff.reduce(model, chain) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 128)
    """

    keep: Keep = 0.5
    order: Annotated[int, OneOf(0, 1, 2)] = 2

    facts = MethodFacts(
        name="taylor_frames",
        title="Frames by Taylor residual",
        paper="https://arxiv.org/abs/2605.22678",
        summary="keeps the frames farthest from where the frames before them lead",
        stage="before layer 0",
        count="data",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`; keeping all frames computes nothing."""
        frame = frame_numbers(signals.geometry)
        size = torch.bincount(frame)
        count = kept_count(self.keep, len(size))
        if count == len(size):
            return Plan.identity(len(signals), frame.device)
        path = group_sums(signals.hidden().to(torch.float32), frame) / size[:, None]
        chosen = torch.zeros_like(size, dtype=torch.bool)
        chosen[peaks_first(taylor_residuals(path, self.order), count)] = True
        return Plan.select(chosen[frame].nonzero().flatten(), len(signals))
