"""HoloV: divide the budget among crops of the picture, then keep what the class token looks at in each crop.

Paper: https://arxiv.org/abs/2510.02912.

Differs from the published code: a crop never gets more than its tokens, the surplus goes to the other crops (the code
fills up with zero vectors); crops are cut within a picture and the crops of all pictures of a clip share one budget
(the code cuts the concatenated tiles); survivors stay in reading order; tokens keep their positions; and, with
`scale="clip"`, variety counts in the quotas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch

from framefusion.core.layout import frame_numbers
from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.budget import apportion
from framefusion.core.ops.selection import lowest_of_each
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.weighted import group_sums
from framefusion.core.options import Count, Interval, Keep, TowerLayer
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor

TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class HoloV(SelectingMethod):
    """Quotas of crops from attention and visual variety, tokens of a crop from attention.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number; a fraction is rounded to the nearest count.
            The default is 64 of the 576 of LLaVA-1.5.
        crops: runs in reading order, as even as can be, that a picture is cut into; at least 1.
        alpha: weight of variety against attention in the score of a crop, at least 0.
        tower_layer: attention layer of the vision tower that scores, -1 the last, -2 the one before it.
        scale: over what variety is brought to the scale of attention. "crop" is the released code: every crop's variety
            then has the mean of its attention, so attention alone sets the quotas. "clip" gives crops of more variety
            more.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.HoloV(keep=0.111)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 57)
    """

    keep: Keep = 0.111
    crops: Count = 16
    alpha: Annotated[float, Interval("[0, 1000000]")] = 0.09
    tower_layer: TowerLayer = -2
    scale: Literal["crop", "clip"] = "crop"

    facts = MethodFacts(
        name="holov",
        title="HoloV",
        paper="https://arxiv.org/abs/2510.02912",
        summary="divides the budget among crops of the picture and keeps what the class token looks at in each",
        stage="prompt, before layer 0",
    )

    uses: ClassVar[frozenset[str]] = frozenset({"hidden", "vision"})

    def select(self, signals: Signals, count: int) -> Tensor:
        attention = signals.vision().saliency(self.tower_layer, False)
        crop = runs(frame_numbers(signals.geometry), self.crops)
        size = torch.bincount(crop)
        attended = group_sums(attention, crop) / size
        various = group_sums(variety(unit_rows(signals.hidden()), crop, size), crop) / size
        quota = apportion(self._score(attended, various, size), size, count)
        chosen = lowest_of_each(-attention, crop, quota)
        return chosen.nonzero().flatten()

    def _score(self, attended: Tensor, various: Tensor, size: Tensor) -> Tensor:
        """(C,) mean score of each crop: mean attention plus `alpha` times mean variety, scaled to attention."""
        if self.scale == "crop":
            scale = attended / various.clamp(min=TINY)
        else:
            part = size / size.sum()
            scale = (attended * part).sum() / (various * part).sum().clamp(min=TINY)
        return attended + self.alpha * various * scale


def runs(picture: Tensor, crops: int) -> Tensor:
    """(N,) number of the crop of each token. picture: (N,) ascending numbers 0..P-1 of the tokens' pictures."""
    size = torch.bincount(picture)
    inside = torch.arange(len(picture), device=picture.device) - (size.cumsum(0) - size)[picture]
    parts = size.clamp(max=crops)
    return (parts.cumsum(0) - parts)[picture] + inside * parts[picture] // size[picture]


def variety(unit: Tensor, crop: Tensor, size: Tensor) -> Tensor:
    """(N,) variance of each token's cosines with the tokens of its crop, 0 with itself, as published.

    unit: (N, D) rows of length one or zero. crop: (N,) ascending 0..C-1. size: (C,) tokens of each crop.
    """
    inside = torch.arange(len(crop), device=crop.device) - (size.cumsum(0) - size)[crop]
    boxes = unit.new_zeros(len(size), int(size.max()), unit.shape[1])
    boxes[crop, inside] = unit
    cosine = torch.matmul(boxes, boxes.transpose(1, 2))
    cosine.diagonal(dim1=1, dim2=2).zero_()
    taken = torch.arange(boxes.shape[1], device=crop.device) < size[:, None]
    count = size[:, None].to(unit.dtype)
    # Empty seats are zero vectors, so they add nothing to the mean.
    off = (cosine - cosine.sum(2, keepdim=True) / count[..., None]) * taken[:, None]
    return (off.square().sum(2) / count)[crop, inside]
