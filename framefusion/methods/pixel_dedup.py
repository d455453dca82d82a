"""PixelDedup: units of a clip that did not change since they were last encoded are not encoded again.

Paper: none. Differs from the published code: there is none. Leaving out patches by pixel difference is published for
trained towers (Run-Length Tokenization, https://arxiv.org/abs/2411.05222); there each frame is compared with the one
before, and what is left out takes its context along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from framefusion.core.method import Method, MethodFacts, Stage
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.pixel_change import Encoding, encode_changed, encode_distinct, encode_share
from framefusion.core.options import Interval, Keep, Share
from framefusion.core.stage import PixelStage

if TYPE_CHECKING:
    from torch import Tensor

Threshold = Annotated[float, Interval("[0, 10]")]
Frames = Annotated[int, Interval("[0, inf)")]
Mode = Literal["copy", "merge"]


@dataclass(frozen=True)
class PixelDedup(Method):
    """Encode what changed, in the pixels, since its place was last encoded.

    Change is the root mean square difference of a unit's cells of some seven pixels on [0, 1], over their spread plus
    0.1; that of the units around it counts half as much as its own.

    Args:
        keep: units of a clip that are encoded, a fraction in (0, 1] or a number; the threshold follows. None leaves it
            to `threshold`. 1.0 is the identity. The first frame is always encoded.
        threshold: change above which a unit is encoded. 0 leaves out nothing but frames that repeat to the bit.
        max_share: of the units behind the first frame, (0, 1], this share is encoded at most: where more of them
            change, the threshold rises. 1.0 sets no bound, nor does a `keep` or a threshold of 0.
        refresh: frames after which a unit is encoded again at the slightest change; 0 for never.
        reuse: encoded units attend to their whole frame, in which the others show the keys and values they had when
            they were last encoded. False leaves the others out.
        mode: "copy" leaves the tokens of units that were not encoded in the prompt, with the features of the units they
            repeat; "merge" takes them out.
        blend: copied features lie between those of the last and of the next encoding of their place. None: unless a
            method that merges tokens follows in the chain, which finds copies of one token and merges them at no loss.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.PixelDedup()) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.patches <= reduction.report.patches_dense
        True
    """

    keep: Keep | None = None
    threshold: Threshold = 0.41
    max_share: Share = 0.45
    refresh: Frames = 8
    reuse: bool = True
    mode: Mode = "copy"
    blend: bool | None = None
    proportional_attention: bool = False

    facts = MethodFacts(
        name="pixel_dedup",
        title="PixelDedup",
        paper="",
        summary="encodes only units whose pixels changed since their place was last encoded",
        stage="in front of the vision tower, in its attention, and before layer 0",
        count="data",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        merge = self.mode == "merge"
        return (PixelStage(self.decide, self.reuse, merge, False if merge else self.blend),)

    def decide(self, frames: Sequence[Tensor], grid: tuple[int, int]) -> Encoding:
        """What is encoded of a clip of T frames.

        frames: T times (U, F, C, s, s) pixels on [0, 1] of units of F pictures. grid: rows and columns of the units.
        """
        units, refresh = grid[0] * grid[1], self.refresh or None
        if self.keep is not None:
            if self.keep == 1.0 and isinstance(self.keep, float):
                return Encoding.everything(len(frames), units)
            return encode_share(frames, grid, kept_count(self.keep, len(frames) * units), refresh)
        if self.threshold == 0:
            return encode_distinct(frames)
        if self.max_share == 1.0:
            return encode_changed(frames, grid, self.threshold, refresh)
        most = units + int(self.max_share * (len(frames) - 1) * units)
        return encode_share(frames, grid, most, refresh, self.threshold)
