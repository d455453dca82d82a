"""PixelDedup: units of a clip that did not change since they were last encoded are not encoded again.

Paper: none. Differs from the published code: there is none. Dropping by pixel difference is published for trained towers
(Run-Length Tokenization, https://arxiv.org/abs/2411.05222); comparing with the last encoded unit, and reusing keys and
values inside a stock tower, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from framefusion.method import Method, MethodFacts, Stage
from framefusion.ops.count import kept_count
from framefusion.ops.pixel_change import Encoding, encode_changed, encode_share
from framefusion.options import Count, Interval, Keep
from framefusion.stage import PixelStage

if TYPE_CHECKING:
    from torch import Tensor

Threshold = Annotated[float, Interval("[0, 1]")]


@dataclass(frozen=True)
class PixelDedup(Method):
    """Encode what changed, in the pixels, since its place was last encoded.

    Args:
        keep: units of a clip that are encoded, a fraction in (0, 1] or a number; the threshold follows. None leaves it to
            `threshold`. 1.0 is the identity. The first frame is always encoded.
        threshold: mean absolute change on [0, 1] pixels above which a unit is encoded; 0 drops exact repeats alone.
        refresh: frames after which a unit is encoded again at the slightest change, or None.
        reuse: encoded units attend to their whole frame, in which the others show the keys and values they had when they
            were last encoded. False leaves the others out.
        mode: "merge" takes the tokens of units that were not encoded out of the prompt, "copy" leaves them in, with the
            features of the units they repeat.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.PixelDedup(threshold=0.0)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.patches <= reduction.report.patches_dense
        True
    """

    keep: Keep | None = None
    threshold: Threshold = 0.03
    refresh: Count | None = None
    reuse: bool = True
    mode: Literal["merge", "copy"] = "merge"

    facts = MethodFacts(
        name="pixel_dedup",
        title="PixelDedup",
        paper="",
        summary="encodes only units whose pixels changed since their place was last encoded",
        stage="before the vision tower, inside its attention, and before layer 0",
        count="data",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (PixelStage(self.decide, self.reuse, self.mode == "merge"),)

    def decide(self, frames: Sequence[Tensor]) -> Encoding:
        """What is encoded of a clip of T frames. frames: T times (U, D) pixels on [0, 1]."""
        if self.keep is None:
            return encode_changed(frames, self.threshold, self.refresh)
        units = len(frames[0])
        if self.keep == 1.0 and isinstance(self.keep, float):
            return Encoding.everything(len(frames), units)
        return encode_share(frames, kept_count(self.keep, len(frames) * units), self.refresh)
