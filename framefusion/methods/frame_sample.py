"""FrameSample: keep whole frames, evenly spaced, the control that asks whether fewer frames would have done as well.

Paper: none. Differs from the published code: there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import evenly_spaced
from framefusion.core.options import Keep
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage


@dataclass(frozen=True)
class FrameSample(Method):
    """Keep evenly spaced frames of each clip with all their tokens. A picture is a clip of one frame and stays.

    Args:
        keep: fraction of the frames of each clip, (0, 1], or the number of frames (not of tokens); default 0.3. 1.0 is
            the identity.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.FrameSample(keep=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 160)
    """

    keep: Keep = 0.3

    facts = MethodFacts(
        name="frame_sample",
        title="Frame subsampling",
        paper="",
        summary="keeps whole frames, evenly spaced",
        stage="before layer 0",
    )

    def stages(self) -> tuple[Stage, ...]:
        return (DecoderStage(before(0), self.decide, needs=frozenset()),)

    def decide(self, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals`."""
        frames, frame = torch.unique(signals.geometry.frame, return_inverse=True)
        count = kept_count(self.keep, frames.numel())
        chosen = torch.zeros_like(frames, dtype=torch.bool)
        chosen[evenly_spaced(count, frames.numel(), frames.device)] = True
        return Plan.select(chosen[frame].nonzero().flatten(), len(signals))
