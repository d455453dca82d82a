"""More tokens on the cache of a reduced prompt, several at once: causal everywhere, and equal to one by one."""

from __future__ import annotations

import inspect

import pytest
import torch

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import (
    CLIP,
    THIRD,
    continuation,
    every_family,
    families,
    few_families,
    identity,
    inputs,
    method,
    model,
)
from tests.support.tiny import moving_clip
from tests.support.tiny import prompt as make_prompt

# As many frames as the first turn, of another shape.
SMALL = moving_clip(6, 56, 28, seed=5)

TURN = [[11, 12, 13, 14, 15, 16], [31, 32, 33, 34, 35, 36]]


def turn(rows):
    return torch.tensor(TURN[:rows])


@torch.no_grad()
def read(net, prompt):
    """The prompt, read into a fresh cache."""
    return cache_of(net(**prompt, use_cache=True))


@torch.no_grad()
def go_on(name, net, prompt, cache, tokens, done=0):
    """Logits of `tokens` (B, Q) behind the prompt and `done` further tokens."""
    options = continuation(name, net, prompt, done, tokens.shape[1])
    return net(input_ids=tokens, **{cache_name(): cache}, use_cache=True, **options).logits


@every_family
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_a_turn_at_once_equals_the_turn_token_by_token(name, rows):
    net, prompt = model(name), inputs(name, rows)
    tokens = turn(prompt["input_ids"].shape[0])
    with reduce_clips(net, method(name)):
        together = go_on(name, net, prompt, read(net, prompt), tokens)
        cache = read(net, prompt)
        single = [go_on(name, net, prompt, cache, tokens[:, i : i + 1], i) for i in range(tokens.shape[1])]
    torch.testing.assert_close(together, torch.cat(single, 1), atol=2e-4, rtol=1e-3)


@every_family
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_a_later_token_moves_no_earlier_logits(name, rows):
    net, prompt = model(name), inputs(name, rows)
    tokens = turn(prompt["input_ids"].shape[0])
    changed = tokens.clone()
    changed[:, 3] = 77
    with reduce_clips(net, method(name)):
        before, after = (go_on(name, net, prompt, read(net, prompt), chosen) for chosen in (tokens, changed))
    torch.testing.assert_close(after[:, :3], before[:, :3], atol=1e-5, rtol=1e-5)
    assert (after[:, 3:] - before[:, 3:]).abs().amax((0, 2)).min() > 1e-3


@every_family
def test_a_turn_of_a_padded_batch_equals_the_turn_of_its_rows(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        together = go_on(name, net, prompt, read(net, prompt), turn(2))
        for number, row in enumerate(("long", "short")):
            alone = inputs(name, row)
            if name == "smolvlm" and row == "short":
                continue
            logits = go_on(name, net, alone, read(net, alone), turn(2)[number : number + 1])
            torch.testing.assert_close(together[number : number + 1], logits, atol=2e-4, rtol=1e-3)


@few_families
def test_the_identity_in_a_second_turn_is_the_dense_model(name):
    net, prompt = model(name), inputs(name)
    dense = go_on(name, net, prompt, read(net, prompt), turn(2))
    with ff.reduce(net, identity()):
        assert torch.equal(go_on(name, net, prompt, read(net, prompt), turn(2)), dense)


def conversation(net, prompt, tokens=6):
    """Two calls of `generate` on one cache; returns the new tokens of the second, and the ids it was given."""
    first = net.generate(**prompt, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
    ids = torch.cat([first.sequences, turn(first.sequences.shape[0])], 1)
    mask = prompt["attention_mask"]
    second = net.generate(
        input_ids=ids,
        attention_mask=torch.cat([mask, mask.new_ones(mask.shape[0], ids.shape[1] - mask.shape[1])], 1),
        **{cache_name(): cache_of(first)},
        max_new_tokens=tokens,
        do_sample=False,
    )
    return second[:, ids.shape[1] :], ids


@every_family
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_a_second_turn_through_generate(name, rows):
    """Equal to the same tokens fed to the bare model behind the same cache."""
    net, prompt = model(name), inputs(name, rows)
    with reduce_clips(net, method(name)) as reduction:
        generated, ids = conversation(net, prompt)
        assert reduction.report.prompts == 1
        cache, ids = read(net, prompt), ids[:, prompt["input_ids"].shape[1] :]
        done, expected = 0, []
        for _ in range(generated.shape[1]):
            token = go_on(name, net, prompt, cache, ids, done)[:, -1:].argmax(-1)
            done += ids.shape[1]
            expected.append(token)
            ids = token
    assert generated.tolist() == torch.cat(expected, 1).tolist()


@few_families
def test_the_identity_in_a_conversation_is_the_dense_model(name):
    net, prompt = model(name), inputs(name)
    dense, _ = conversation(net, prompt)
    with ff.reduce(net, identity()):
        assert conversation(net, prompt)[0].tolist() == dense.tolist()


@every_family
@torch.no_grad()
def test_a_new_video_in_the_second_turn(name):
    """The identity equals the dense model; a real method reduces the new clip too, behind the reduced old one."""
    net, prompt = model(name), inputs(name, "long")
    turn = make_prompt(name, [[("text", "next: "), ("video", THIRD), ("text", "?")]])
    turn.pop("attention_mask")

    def logits():
        return net(**turn, **{cache_name(): read(net, prompt)}, use_cache=True).logits

    dense = logits()
    with ff.reduce(net, identity()):
        assert torch.equal(logits(), dense)
    with reduce_clips(net, method(name)) as reduction:
        assert logits().shape == dense.shape
        assert reduction.report.prompts == 2
        assert reduction.report.kept_tokens < reduction.report.visual_tokens


SIZES = ("pixel", "image_", "video_")
FIRST = [("text", "look "), ("video", CLIP), ("text", "what?")]
SECOND = [("text", "next: "), ("video", SMALL), ("text", "and that?")]


def chat(net, one, two, only_new=False):
    """A turn on a first turn's cache through `generate`, with all ids or the new ones alone; returns its tokens."""
    first = net.generate(**one, max_new_tokens=3, do_sample=False, return_dict_in_generate=True)
    ids = torch.cat([first.sequences, two["input_ids"]], 1)
    given = {key: value for key, value in two.items() if key.startswith(SIZES)}
    second = net.generate(
        input_ids=two["input_ids"] if only_new else ids,
        attention_mask=torch.ones_like(ids),
        **{cache_name(): cache_of(first)},
        max_new_tokens=4,
        do_sample=False,
        **given,
    )
    return second[:, -4:].tolist()


@every_family
@pytest.mark.parametrize("only_new", [False, True], ids=["all ids", "new ids"])
def test_a_new_video_in_a_later_turn_of_generate(name, only_new):
    net = model(name)
    one, two = (make_prompt(name, [turn]) for turn in (FIRST, SECOND))
    dense = chat(net, one, two, only_new)
    with ff.reduce(net, identity()):
        assert chat(net, one, two, only_new) == dense
    with reduce_clips(net, method(name)) as reduction:
        chat(net, one, two, only_new)
        report = reduction.report
    assert report.prompts == 2 and report.kept_tokens < report.visual_tokens
    with reduce_clips(net, method(name)) as reduction:
        net(**two)
    for field in ("clip", "frame", "row", "column", "patch"):
        found, alone = (getattr(one.layout.rows[0][0], field) for one in (report, reduction.report))
        assert torch.equal(found, alone)


@families("qwen2_5_vl", "qwen3_vl", "qwen3_5")
@torch.no_grad()
def test_grids_of_all_pictures_with_the_features_of_the_new_one(name):
    """Positions may need all grids; the first turn's placeholders are cached, and its grids are skipped."""
    net = model(name)
    if "mm_encoder_outputs" not in inspect.signature(type(net).forward).parameters:
        pytest.skip("this transformers takes no encoded pictures")
    one, two = (make_prompt(name, [turn]) for turn in (FIRST, SECOND))
    taken = inspect.signature(net.base_model.get_video_features).parameters

    def later():
        features = net.base_model.get_video_features(**{k: v for k, v in two.items() if k in taken}, return_dict=True)
        grids = torch.cat([one["video_grid_thw"], two["video_grid_thw"]])
        types = {key: value for key, value in two.items() if key == "mm_token_type_ids"}
        return net(
            input_ids=two["input_ids"], **types, video_grid_thw=grids, mm_encoder_outputs={"video": features},
            **{cache_name(): read(net, one)}, use_cache=True,
        ).logits  # fmt: skip

    dense = later()
    with ff.reduce(net, identity()):
        assert torch.equal(later(), dense)
    with reduce_clips(net, method(name)) as reduction:
        later()
        geometry = reduction.report.layout.rows[0][0]
        net(**two)
        assert torch.equal(geometry.row, reduction.report.layout.rows[0][0].row)
