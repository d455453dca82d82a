"""Bring what a vision tower knows about its patches to the visual tokens a language model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def to_tokens(values: Tensor, count: int, grouped: bool) -> Tensor | None:
    """(P, C) values of a picture's patches -> (count, C) of its tokens; None where the sizes tell no way.

    grouped: the patches of one token stand next to each other (Qwen-VL); otherwise both are square grids in reading
    order, and the patches are resized to the tokens' grid.
    """
    patches = values.shape[0]
    if patches == count:
        return values
    if grouped:
        return values.view(count, patches // count, -1).mean(1) if patches % count == 0 else None
    side, wanted = round(patches**0.5), round(count**0.5)
    if side * side != patches or wanted * wanted != count:
        return None
    picture = values.T.reshape(1, -1, side, side).float()
    if side % wanted == 0:
        resized = F.avg_pool2d(picture, side // wanted)
    else:
        resized = F.interpolate(picture, (wanted, wanted), mode="bilinear")
    return resized.reshape(values.shape[1], count).T.to(values.dtype)
