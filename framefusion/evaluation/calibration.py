"""The threshold of FrameFusion for a model nobody published one for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.core.options import shown
from framefusion.evaluation.analysis.observe import Observe
from framefusion.evaluation.prefill import prefill
from framefusion.inference.reduction import reduce_clips

if TYPE_CHECKING:
    from torch import Tensor, nn


def calibrate(model: nn.Module, inputs: Iterable[Mapping[str, Any]]) -> float:
    """`similarity_lower_bound` for `model` by the paper's rule.

    The median cosine of visual tokens with their predecessors at the input of the first layer, taken per video and
    averaged over the videos (FrameFusion, section 4). Frames closer in time are more alike, so the threshold holds for
    the number of frames per clip that it was calibrated at.

    Args:
        model: as for `reduce`; it is left as it was.
        inputs: what the processor returns for each video, one prompt (or batch of prompts) at a time.

    Returns:
        A cosine in [-1, 1].

    Raises:
        OptionError: inputs that are no prompts, or no prompt has a token with a predecessor in time.

    Example:
        >>> threshold = ff.calibrate(model, [inputs])
        >>> method = ff.FrameFusion(cost=0.3, similarity_lower_bound=threshold)
    """
    hint = "pass a list, of what the processor returns for each video"
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise OptionError("inputs must be several prompts", f"got {shown(inputs)}", hint)
    observed = Observe(layers=1)
    with reduce_clips(model, observed):
        for prompt in inputs:
            if not isinstance(prompt, Mapping):
                raise OptionError(f"a prompt must be a mapping, got {shown(prompt)}", hint=hint)
            prefill(model, prompt)
    return threshold_of([row[0] for row in observed.seen if row and row[0].numel()])


def threshold_of(similarities: Iterable[Tensor]) -> float:
    """The rule itself. similarities: per video (n,) cosines at the input of the first layer, n at least 1."""
    medians = [float(similarity.median()) for similarity in similarities]
    if not medians:
        raise OptionError(
            "nothing to calibrate on",
            "no prompt had a clip of at least two frames",
            "pass the processor's outputs for a few videos",
        )
    return sum(medians) / len(medians)
