"""Uniform: keep every so many-th token, a control, and the rule that ADSC trains a model for.

Paper: ADSC, https://arxiv.org/abs/2602.12618; without training the rule is a control like any other.

Differs from the published code: none was published; the paper drops tokens at several layers and adapts the model to it
with LoRA, this drops them once before a layer of your choice and trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.selection import evenly_spaced
from framefusion.core.options import Keep, Layer
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Uniform(SelectingMethod):
    """Keep tokens at a uniform stride through each clip's patches in reading order, frame after frame.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; default 0.3. 1.0 is the identity.
        layer: decoder layer before which the others go; default 0, the prompt point.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.Uniform(keep=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 154)
    """

    keep: Keep = 0.3
    layer: Layer = 0

    facts = MethodFacts(
        name="uniform",
        title="Uniform stride",
        paper="https://arxiv.org/abs/2602.12618",
        summary="keeps tokens at a uniform stride",
        stage="before a layer",
    )

    uses: ClassVar[frozenset[str]] = frozenset()

    def select(self, signals: Signals, count: int) -> Tensor:
        return evenly_spaced(count, len(signals), signals.size.device)
