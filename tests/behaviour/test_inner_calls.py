"""Calls of the model inside `generate`: only those that read its own prompt belong to it."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

import framefusion as ff
from framefusion.inference.reduction import reduce_clips
from framefusion.methods.prumerge import PruMerge
from tests.behaviour.support import OTHER, answer, few_families, inputs, method, model
from tests.support.tiny import moving_clip
from tests.support.tiny import prompt as make_prompt

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def words(rows, length=30):
    return torch.randint(1, 200, (rows, length), generator=torch.Generator().manual_seed(1))


class Asking(LogitsProcessor):
    """Asks the model something of its own at every step."""

    def __init__(self, ask):
        self.ask, self.heard = ask, []

    def __call__(self, input_ids, scores):
        self.heard.append(self.ask())
        return scores


class Checking(Asking, StoppingCriteria):
    def __call__(self, input_ids, scores, **options):
        self.heard.append(self.ask())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def while_generating(net, prompt, ask, tokens=3, **options):
    """What the model generates and what it says in between."""
    asking = Asking(ask)
    found = answer(net, prompt, tokens, logits_processor=LogitsProcessorList([asking]), **options)
    return found.tolist(), asking.heard


@torch.no_grad()
def logits(net, **given):
    return net(**given).logits[:, -1]


@few_families
@pytest.mark.parametrize("rows", ["long", "ragged"])
@pytest.mark.parametrize("length", [30, None], ids=["fewer", "as many"])
def test_words_alone_keep_all_their_words(name, rows, length):
    net, prompt = model(name), inputs(name, rows)
    batch, width = prompt["input_ids"].shape
    other = words(batch, length or width)
    expected = logits(net, input_ids=other, attention_mask=torch.ones_like(other))
    with reduce_clips(net, method(name)) as reduction:
        alone = answer(net, prompt, 3).tolist()
        prompts = reduction.report.prompts
        found, heard = while_generating(
            net, prompt, lambda: logits(net, input_ids=other, attention_mask=torch.ones_like(other))
        )
        assert found == alone and reduction.report.prompts == 2 * prompts
    for said in heard:
        torch.testing.assert_close(said, expected, **CLOSE)


@few_families
def test_a_row_of_words_in_a_batch_and_in_a_stopping_criterion(name):
    net, prompt, other = model(name), inputs(name), words(1)
    expected = logits(net, input_ids=other, attention_mask=torch.ones_like(other))
    asking = Checking(lambda: logits(net, input_ids=other, attention_mask=torch.ones_like(other)))
    with reduce_clips(net, method(name)):
        answer(net, prompt, 3, stopping_criteria=StoppingCriteriaList([asking]), num_beams=2)
    assert asking.heard
    torch.testing.assert_close(asking.heard[-1], expected, **CLOSE)


@few_families
@pytest.mark.parametrize("use_cache", [True, False])
def test_guidance_is_the_sum_of_its_two_branches(name, use_cache):
    net, prompt, other = model(name), inputs(name, "long"), words(1)
    with reduce_clips(net, method(name)):
        scores = net.generate(
            **prompt, max_new_tokens=1, do_sample=False, guidance_scale=1.5, negative_prompt_ids=other,
            return_dict_in_generate=True, output_scores=True, use_cache=use_cache,
        ).scores[0]  # fmt: skip
        shown = logits(net, **prompt).log_softmax(-1)
    blind = logits(net, input_ids=other, attention_mask=torch.ones_like(other)).log_softmax(-1)
    torch.testing.assert_close(scores, 1.5 * (shown - blind) + blind, **CLOSE)


@few_families
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_branch_with_a_picture_of_its_own(name, use_cache):
    """As long as the outer prompt, and with as many pictures: only its words and pixels are others."""
    net, prompt = model(name), inputs(name, "long")
    other = make_prompt(name, [[("video", OTHER), ("text", "and"), ("video", OTHER), ("text", "what is to be seen?")]])
    with reduce_clips(net, method(name)) as reduction:
        alone, expected = answer(net, prompt, 3, use_cache=use_cache).tolist(), logits(net, **other)
        kept = reduction.report.surviving_columns
        found, heard = while_generating(net, prompt, lambda: logits(net, **other), use_cache=use_cache)
        assert found == alone and reduction.report.surviving_columns == kept
    for said in heard:
        torch.testing.assert_close(said, expected, **CLOSE)


@few_families
@pytest.mark.parametrize("seed", [0, 5], ids=["the same", "another"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_branch_of_pictures_without_words(name, seed, use_cache):
    """Guidance towards the picture: the branch has no word of the prompt, and its clip or another."""
    net, clip = model(name), moving_clip(4)
    prompt = make_prompt(name, [[("text", "look: "), ("video", clip), ("text", "what is to be seen?")]])
    other = make_prompt(name, [[("video", moving_clip(4, seed=seed) if seed else clip)]])
    with reduce_clips(net, method(name)) as reduction:
        alone, expected = answer(net, prompt, 3, use_cache=use_cache).tolist(), logits(net, **other)
        kept = reduction.report.surviving_columns
        found, heard = while_generating(net, prompt, lambda: logits(net, **other), use_cache=use_cache)
        assert found == alone and reduction.report.surviving_columns == kept
    for said in heard:
        torch.testing.assert_close(said, expected, **CLOSE)


@few_families
def test_a_generate_inside_generate(name):
    net, prompt = model(name), inputs(name)
    other = make_prompt(name, [[("text", "once more: "), ("video", OTHER), ("text", "?")]])
    with reduce_clips(net, method(name)):
        alone, expected = answer(net, prompt, 3).tolist(), answer(net, other, 4).tolist()
        found, heard = while_generating(net, prompt, lambda: answer(net, other, 4).tolist())
    assert found == alone and heard == [expected] * 3


@pytest.mark.parametrize("use_cache", [True, False])
def test_what_the_tower_saw_stays_with_its_prompt(use_cache):
    """The inner call has the same words and another picture, as in visual contrastive decoding."""
    net = model("llava")
    prompt, other = (
        make_prompt("llava", [[("image", moving_clip(1, seed=seed)[0]), ("text", "what?")]]) for seed in (1, 2)
    )
    with ff.reduce(net, PruMerge(keep=5)):
        alone, expected = answer(net, prompt, 3, use_cache=use_cache).tolist(), logits(net, **other)
        found, heard = while_generating(net, prompt, lambda: logits(net, **other), use_cache=use_cache)
    assert found == alone
    torch.testing.assert_close(heard[-1], expected, **CLOSE)


@few_families
def test_a_call_inside_a_forward_call(name):
    """A hook between two layers asks about other words; both keep their own layout and their own query row."""
    net, prompt, other = model(name), inputs(name, "long"), words(1)
    expected, heard = logits(net, input_ids=other), []

    def ask(module, args):
        if not heard:
            heard.append(None)
            heard[0] = logits(net, input_ids=other)

    with reduce_clips(net, method(name)):
        alone = logits(net, **prompt)
        handle = net.get_decoder().layers[3].register_forward_pre_hook(ask)
        try:
            found = logits(net, **prompt)
        finally:
            handle.remove()
    torch.testing.assert_close(found, alone, **CLOSE)
    torch.testing.assert_close(heard[0], expected, **CLOSE)


class Comparisons(TorchDispatchMode):
    """Counts comparisons of whole tensors, each of which waits for the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.equal.default
        return function(*args, **(kwargs or {}))


def comparisons(net, prompt, tokens, **options):
    with Comparisons() as seen:
        answer(net, prompt, tokens, **options)
    return seen.count


@few_families
@pytest.mark.parametrize("beams", [1, 2])
def test_a_decode_step_is_not_compared_with_the_prompt(name, beams):
    """Whose step it is would be asked on the device at every token; one column shows no picture."""
    net, prompt = model(name), inputs(name, "long")
    with reduce_clips(net, method(name)):
        few, many = (comparisons(net, prompt, tokens, num_beams=beams) for tokens in (1, 4))
    assert few == many
