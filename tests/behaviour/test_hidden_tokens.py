"""Padding masks that hide some of the visual tokens."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from tests.support.cases import inputs_of, model_of


@pytest.mark.parametrize("family", ["llava_onevision", "internvl"])
@pytest.mark.parametrize("method", [ff.Random(keep=0.3), ff.FastV(keep=0.3, layer=2), ff.FrameFusion(cost=0.3)])
def test_hidden_visual_tokens_are_reduced_like_others(family: str, method: ff.Method) -> None:
    """A row alone and the same row padded in a batch give the same logits, in front of layer 0 and later."""
    model, rows = model_of(family), ("full", "short")
    together, alone = inputs_of(family, *rows), [inputs_of(family, row) for row in rows]
    width = together["input_ids"].shape[1]
    masks = [inputs["attention_mask"].clone() for inputs in alone]
    together["attention_mask"] = together["attention_mask"].clone()
    for number, mask in enumerate(masks):
        mask[0, 12:20] = 0
        alone[number]["attention_mask"] = mask
        together["attention_mask"][number, width - mask.shape[1] :] = mask[0]
    with torch.no_grad(), ff.reduce(model, method):
        apart = torch.cat([model(**inputs).logits[:, -1] for inputs in alone])
        joined = model(**together).logits[:, -1]
    torch.testing.assert_close(joined, apart, atol=1e-4, rtol=0)
