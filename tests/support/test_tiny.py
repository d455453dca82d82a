"""The toy models are fit for tests: they run, they depend on their inputs, and a batch equals its rows."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from framefusion.inference.answer.checkpoint import load_checkpoint
from tests.support.tiny import FAMILIES, build_model, moving_clip, processor, prompt, save_checkpoint

PICTURE = moving_clip(frames=1, seed=9)[0]
FULL = [("video", moving_clip()), ("text", "what happens here?")]
SHORT = [("text", "hi "), ("video", moving_clip(seed=1)), ("text", "?")]
TEXT = [("text", "only words")]


def _parameter(family):
    missing = family.needs is not None and find_spec(family.needs) is None
    skip = pytest.mark.skipif(missing, reason=f"the processor of {family.name} needs {family.needs}")
    return pytest.param(family.name, marks=skip)


every_family = pytest.mark.parametrize("name", [_parameter(family) for family in FAMILIES.values()])


@pytest.fixture(scope="module")
def models():
    built = {}
    return lambda name: built.setdefault(name, build_model(name))


def answer(model, inputs, tokens=6):
    output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return output[:, inputs["input_ids"].shape[1] :]


@torch.no_grad()
def last_logits(model, inputs):
    return model(**inputs).logits[:, -1]


@every_family
def test_model_has_the_shape_the_tests_rely_on(name, models):
    model = models(name)
    text = model.config.get_text_config()
    assert len(model.get_decoder().layers) == 4
    assert 32 <= text.hidden_size <= 64
    assert text.num_attention_heads > text.num_key_value_heads
    assert text.vocab_size <= 512
    assert text.pad_token_id is not None and text.eos_token_id is not None
    assert not model.training
    assert len(build_model(name, layers=6).get_decoder().layers) == 6


@every_family
def test_same_seed_same_weights(name, models):
    inputs = prompt(name, [FULL])
    assert torch.equal(last_logits(models(name), inputs), last_logits(build_model(name), inputs))
    assert not torch.equal(last_logits(models(name), inputs), last_logits(build_model(name, seed=1), inputs))


@every_family
def test_generates_from_a_video_without_stopping_early(name, models):
    tokens = answer(models(name), prompt(name, [FULL]), tokens=12)
    assert tokens.shape == (1, 12)
    assert tokens.max() < 256


@every_family
def test_half_precision_rounds_the_same_weights(name, models):
    half = build_model(name, dtype=torch.bfloat16)
    for ours, theirs in zip(half.parameters(), models(name).parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
    assert answer(half, prompt(name, [FULL])).shape == (1, 6)


@every_family
@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_attention_implementations_agree(name, attn, models):
    inputs = prompt(name, [FULL])
    logits = last_logits(build_model(name, attn=attn), inputs)
    torch.testing.assert_close(logits, last_logits(models(name), inputs), atol=1e-4, rtol=1e-4)


@every_family
@pytest.mark.parametrize("other", [SHORT, TEXT], ids=["video", "text"])
def test_left_padded_batch_equals_its_rows(name, other, models):
    together = answer(models(name), prompt(name, [FULL, other]))
    for row, expected in zip([FULL, other], together, strict=True):
        assert answer(models(name), prompt(name, [row]))[0].tolist() == expected.tolist()


@every_family
def test_padding_side_is_obeyed(name):
    lengths = prompt(name, [FULL])["attention_mask"].sum(), prompt(name, [TEXT])["attention_mask"].sum()
    for side, padded in (("left", 0), ("right", -1)):
        mask = prompt(name, [FULL, TEXT], padding_side=side)["attention_mask"]
        assert mask.sum(1).tolist() == list(lengths)
        assert mask[1, padded] == 0 and mask[1, -1 - padded] == 1


@every_family
def test_the_clip_and_the_question_matter(name, models):
    seen = last_logits(models(name), prompt(name, [FULL]))
    clip = FULL[0][1].copy()
    clip[2] = moving_clip(frames=1, seed=5)[0]
    changes = {
        "one frame": [("video", clip), FULL[1]],
        "whole clip": [("video", moving_clip(seed=3)), FULL[1]],
        "question": [FULL[0], ("text", "what happens now?!")],
    }
    for what, row in changes.items():
        change = (seen - last_logits(models(name), prompt(name, [row]))).abs().max()
        assert change > 1e-2, what


@every_family
def test_answers_differ_between_prompts(name, models):
    answers = {
        tuple(answer(models(name), prompt(name, [[("video", moving_clip(seed=seed)), ("text", "what?")]]))[0].tolist())
        for seed in range(4)
    }
    assert len(answers) > 1


@every_family
@pytest.mark.parametrize(
    "row",
    [
        [("video", moving_clip()), ("text", "and"), ("video", moving_clip(seed=2)), ("text", "?")],
        [("image", PICTURE), ("text", "and"), ("image", PICTURE[::-1].copy()), ("text", "?")],
        [("image", PICTURE), ("video", moving_clip()), ("text", "?")],
    ],
    ids=["videos", "images", "both"],
)
def test_several_visuals_in_a_row(name, row, models):
    assert answer(models(name), prompt(name, [row, TEXT])).shape == (2, 6)


@every_family
def test_text_alone(name, models):
    inputs = prompt(name, [TEXT])
    assert not any(key.startswith("pixel") for key in inputs)
    assert answer(models(name), inputs).shape == (1, 6)


@every_family
def test_checkpoint_round_trip(name, models, tmp_path):
    save_checkpoint(name, tmp_path)
    if ":" in FAMILIES[name].model_class:
        checkpoint = load_checkpoint(str(tmp_path), device="cpu")
        loaded, reader = checkpoint.model, checkpoint.processor
    else:
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
        reader = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(models(name)) and type(reader) is type(processor(name))
    assert reader.chat_template == processor(name).chat_template
    for kind in ("image_processor", "video_processor"):
        if hasattr(reader, kind):
            assert getattr(reader, kind).to_dict().items() >= getattr(processor(name), kind).to_dict().items()
    special = "".join(processor(name).tokenizer.all_special_tokens) + "plain"
    assert reader.tokenizer(special)["input_ids"] == processor(name).tokenizer(special)["input_ids"]
    inputs = prompt(name, [FULL])
    torch.testing.assert_close(last_logits(loaded, inputs), last_logits(models(name), inputs))
    assert answer(loaded, inputs, tokens=12).tolist() == answer(models(name), inputs, tokens=12).tolist()


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
@pytest.mark.parametrize("frames", [4, 8])
def test_time_stays_within_the_spatial_grid(name, frames):
    grid = prompt(name, [[("video", moving_clip(frames)), ("text", "?")]])["video_grid_thw"][0]
    assert grid.tolist() == [frames // 2, 8, 8]
    assert grid[0] <= max(grid[1:]) // 2


def test_moving_clip_repeats_most_of_each_frame():
    clip = moving_clip(frames=6, height=56, width=84, change=0.25)
    assert clip.shape == (6, 56, 84, 3) and clip.dtype == np.uint8
    same = (clip[1:] == clip[:-1]).all(-1).mean((1, 2))
    assert ((same > 0.7) & (same < 0.85)).all()
    assert (moving_clip(change=0.0) == moving_clip(change=0.0)[:1]).all()
    assert moving_clip(height=30, width=20).shape == (4, 30, 20, 3)
