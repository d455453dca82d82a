"""A bare text decoder with a layout, the published call, calibration and the report."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch
import transformers as hf

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.engine.model.cache_names import cache_of
from framefusion.inference.published_call import apply_framefusion
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, every_family, families, few_families, inputs, method, model, stored_bytes
from tests.support.tiny import redraw

PATCHES, FRAMES, TEXT = 6, 4, 5
TYPES = [-1] * TEXT + list(range(PATCHES)) * FRAMES + [-1] * TEXT
METHOD = ff.FrameFusion(cost=0.4, similarity_lower_bound=0.9)


@cache
def decoder():
    sizes = {"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = hf.Qwen2Config(vocab_size=300, num_key_value_heads=2, **sizes)
    net = hf.Qwen2ForCausalLM(config).eval()
    redraw(net, 0)
    net.generation_config.eos_token_id = None
    net.generation_config.pad_token_id = 0
    return net


def embeddings(rows=1):
    """Every second patch repeats from frame to frame."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, len(TYPES), 32, generator=generator)
    for patch in range(0, PATCHES, 2):
        columns = [column for column, kind in enumerate(TYPES) if kind == patch]
        values[:, columns] = values[:, columns[:1]]
    return values


def layout(rows=1):
    return ff.Layout.from_patch_types([TYPES] * rows)


@torch.no_grad()
def test_embeddings_into_both_classes():
    with ff.reduce(decoder(), METHOD, layout=layout()) as reduction:
        logits = decoder()(inputs_embeds=embeddings()).logits
    assert logits.shape[1] == len(TYPES) and reduction.report.kept_tokens < PATCHES * FRAMES
    with ff.reduce(decoder().model, METHOD, layout=layout()):
        states = decoder().model(inputs_embeds=embeddings()).last_hidden_state
    torch.testing.assert_close(decoder().lm_head(states), logits)


def test_generate_from_embeddings():
    options = {"max_new_tokens": 8, "do_sample": False}
    with ff.reduce(decoder(), METHOD, layout=layout(2)):
        together = decoder().generate(inputs_embeds=embeddings(2), **options)
        assert together.tolist() == decoder().generate(inputs_embeds=embeddings(2), use_cache=False, **options).tolist()
    for number in range(2):
        with ff.reduce(decoder(), METHOD, layout=layout()):
            alone = decoder().generate(inputs_embeds=embeddings(2)[number : number + 1], **options)
        assert together[number].tolist() == alone[0].tolist()


@families("qwen2_5_vl", "llava_onevision")
def test_the_published_call(name):
    net = model(name)
    with ff.reduce(net, ff.FrameFusion(0.4, 0.8, 0.2)):
        expected = answer(net, inputs(name)).tolist()
    dense = answer(net, inputs(name)).tolist()
    reduction = apply_framefusion(net, cost=0.4, similarity_lower_bound=0.8, ratio_lower_bound=0.2)
    assert answer(net, inputs(name)).tolist() == expected
    reduction.remove()
    assert answer(net, inputs(name)).tolist() == dense


@few_families
@torch.no_grad()
def test_calibration_is_the_mean_of_medians(name):
    net, medians = model(name), []
    prompts = [inputs(name, "short"), inputs(name, "ragged")]
    for prompt in prompts:
        with reduce_clips(net, ff.FrameFusion(cost=1.0)) as reduction:
            hidden = net(**prompt, output_hidden_states=True).hidden_states[0]
            for row, (geometry, placement) in enumerate(reduction.report.layout.rows):
                tokens = {}
                for column, *place in zip(
                    *(t.tolist() for t in (placement.columns, geometry.clip, geometry.patch)), strict=True
                ):
                    tokens.setdefault(tuple(place), []).append(hidden[row, column].float())
                pairs = [pair for series in tokens.values() for pair in pairwise(series)]
                cosines = torch.stack([torch.cosine_similarity(a, b, dim=0) for a, b in pairs])
                medians.append(float(cosines.median()))
    dense = answer(net, prompts[0]).tolist()
    assert ff.calibrate(net, prompts) == pytest.approx(sum(medians) / len(medians), abs=1e-4)
    assert answer(net, prompts[0]).tolist() == dense


def test_calibration_needs_a_clip():
    with pytest.raises(OptionError, match="hint"):
        ff.calibrate(model("qwen2_5_vl"), [inputs("qwen2_5_vl", "text")])


@every_family
@torch.no_grad()
def test_the_report_adds_up(name):
    net = model(name)
    with reduce_clips(net, method(name)) as reduction:
        cache = cache_of(net(**inputs(name), use_cache=True))
    report = reduction.report
    share = sum(layer.visual_in for layer in report.layers) / len(report.layers) / report.visual_tokens
    assert report.cost == pytest.approx(share)
    assert report.kept_fraction == pytest.approx(report.kept_tokens / report.visual_tokens)
    assert report.kept_tokens == report.layers[-1].visual_out
    assert [len(columns) for columns in report.surviving_columns]
    if name != "gemma3":
        assert report.kv_bytes == stored_bytes(cache)
    text = str(report)
    assert f"{report.visual_tokens} -> {report.kept_tokens}" in text and "KV cache" in text
    assert report.to_dict()["cost"] == report.cost


@every_family
def test_text_alone_passes_through(name):
    dense = answer(model(name), inputs(name, "text")).tolist()
    with reduce_clips(model(name), method(name)) as reduction:
        assert answer(model(name), inputs(name, "text")).tolist() == dense
    report = reduction.report
    assert (report.prompts, report.prompts_without_visual_tokens, report.visual_tokens) == (0, 1, 0)
    assert "visual tokens: 0" in str(report)
