"""Padding masks that hide some of the visual tokens, and masks that have more columns than the call."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name, cache_of
from tests.behaviour.support import answer, families, fast_v, identity, inputs, model
from tests.behaviour.test_asking import tuned
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


def wider(mask: torch.Tensor, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (0, 5), value=value)


@families("llava_onevision", "internvl", "smolvlm")
@pytest.mark.parametrize("value", [0, 1])
@torch.no_grad()
def test_what_a_mask_has_beyond_the_call_is_read_by_nobody(name: str, value: int) -> None:
    """Padded to a fixed width behind rows that are padded in front, for the prompt and for a step behind it."""
    net, given = model(name), inputs(name)
    mask, word = given["attention_mask"], given["input_ids"][:, -1:]
    for method in (identity(), fast_v(name)):
        found = []
        for pad in (lambda mask: mask, lambda mask: wider(mask, value)):
            with ff.reduce(net, method) as reduction:
                whole = net(**{**given, "attention_mask": pad(mask)}, use_cache=True)
                more = {"attention_mask": pad(torch.cat([mask, torch.ones_like(word)], 1))}
                step = net(input_ids=word, **more, **{cache_name(): cache_of(whole)})
                found.append((whole.logits[:, -1], step.logits, reduction.report.surviving_columns))
        assert found[0][2] == found[1][2]
        torch.testing.assert_close(found[1][:2], found[0][:2], atol=0, rtol=0)


@families("llava_onevision", "qwen2_5_vl", "gemma3", "internvl")
@torch.no_grad()
def test_a_mask_of_columns_that_are_not_cached(name: str) -> None:
    """As peft 0.21 makes it on transformers 5.24: the mask counts a prefix that the model was not given."""
    net, given = model(name), inputs(name)
    own = net.prepare_inputs_for_generation

    def prepared(*args: object, **kwargs: object) -> dict:
        ready = own(*args, **kwargs)
        ones = torch.ones_like(ready["attention_mask"][:, :3])
        return {**ready, "attention_mask": torch.cat([ones, ready["attention_mask"]], 1)}

    net.prepare_inputs_for_generation = prepared
    try:
        dense = answer(net, given)
        with ff.reduce(net, identity()):
            assert torch.equal(answer(net, given), dense)
        with ff.reduce(net, fast_v(name)) as reduction:
            answer(net, given)
        assert reduction.report.kept_tokens < reduction.report.visual_tokens
    finally:
        del net.prepare_inputs_for_generation


@pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
@pytest.mark.slow
@families("gemma3")
@torch.no_grad()
def test_prefix_tuning_of_a_padded_batch(name: str) -> None:
    net, given = tuned(name, "PrefixTuningConfig", 3), inputs(name)
    dense = answer(net, given)
    with ff.reduce(net, identity()):
        assert torch.equal(answer(net, given), dense)
    with ff.reduce(net, fast_v(name)) as reduction:
        answer(net, given)
    assert reduction.report.kept_tokens < reduction.report.visual_tokens
