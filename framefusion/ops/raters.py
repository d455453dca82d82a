"""Which words of the question look at the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def text_raters(visual: Tensor, text: Tensor) -> Tensor:
    """(M,) bool, the words that visual tokens resemble more than they do the average word (SparseVLM).

    visual: (N, D). text: (M, D). A token spreads its resemblance over the words by a softmax of their products. All
    words rate when none stands out.
    """
    resemblance = (visual.to(torch.float32) @ text.to(torch.float32).T).softmax(1).mean(0)
    raters = resemblance > resemblance.mean()
    return raters if bool(raters.any()) else torch.ones_like(raters)
