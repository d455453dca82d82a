"""VQToken, LLaVA-Mini and PVC at work in stock models: batches, generate, undo, gradients, saved and loaded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import FrameFusionError, OptionError
from framefusion.core.registry import family_of_config
from framefusion.engine.model.parts import find_parts
from framefusion.engine.model.shape import shape_of
from framefusion.models.decoder_layers import through
from framefusion.models.placeholders import placeholder_ids
from framefusion.testing.methods import check_batch_equals_rows, check_text_is_untouched
from tests.support.tiny import build_model, moving_clip, prompt

FAMILIES = ("llava", "llava_onevision", "qwen2_5_vl", "internvl")
REDUCERS = {
    "vqtoken": ff.VQToken(6, places=16, heads=2, feedforward=32),
    "vqtoken_spans": ff.VQToken(6, places=16, heads=2, feedforward=32, spans=2),
    "vqtoken_codes": ff.VQToken(6, places=16, heads=2, feedforward=32, spans=2, codes=9),
    "vqtoken_deep": ff.VQToken(6, places=16, heads=2, feedforward=32, depth=2, spans=2, codes=9),
    "llava_mini": ff.LLaVAMini(prefusion=1, heads=2),
    "llava_mini_together": ff.LLaVAMini(prefusion=1, heads=2, together=True),
    "llava_mini_shared": ff.LLaVAMini(prefusion=1, heads=2, together=True, frames=2),
    "pvc": ff.PVC(heads=2, blocks=1),
    "pvc_pooled": ff.PVC(heads=2, blocks=1, pooled=True),
}
LAYERS = 4
every_reducer = pytest.mark.parametrize("name", list(REDUCERS))
every_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def model_of(family: str):
    return build_model(family, layers=LAYERS)


def shape(family: str):
    parts = find_parts(model_of(family))
    return shape_of(parts, family_of_config(parts.config))


@cache
def reducer_of(name: str, family: str):
    """With weights that are drawn, so that what a new module leaves alone is not."""
    reducer = REDUCERS[name].untrained(shape(family))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in reducer.weights.module.parameters():
            value.copy_(0.1 * torch.randn(value.shape, generator=draw))
    reducer.weights.module.eval()
    return reducer


@cache
def inputs_of(family: str, *rows: int):
    clips = [moving_clip(seed=seed, change=1.0, frames=4) for seed in range(3)]
    both = [
        [("video", clips[0]), ("text", "what happens here?")],
        [("text", "see "), ("video", clips[1]), ("text", " and "), ("video", clips[2]), ("text", "?")],
    ]
    return prompt(family, [both[row] for row in rows])


@contextmanager
def seen(module, found):
    """What `module` is given, in `found`."""
    handle = module.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    try:
        yield
    finally:
        handle.remove()


@every_reducer
@every_family
def test_a_batch_equals_its_rows(name, family):
    rows = [inputs_of(family, 0), inputs_of(family, 1)]
    check_batch_equals_rows(reducer_of(name, family), model_of(family), inputs_of(family, 0, 1), rows, tokens=3)


@every_reducer
def test_text_stays_and_the_model_is_restored(name):
    model, inputs = model_of("llava"), inputs_of("llava", 0, 1)
    with torch.no_grad():
        before = model(**inputs).logits
        check_text_is_untouched(reducer_of(name, "llava"), model, inputs)
        with ff.reduce(model, reducer_of(name, "llava")) as reduction:
            reduced = model(**inputs).logits
        assert torch.equal(model(**inputs).logits, before) and not torch.allclose(reduced, before)
    assert reduction.report.kept_tokens < reduction.report.visual_tokens


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_pvc_begins_as_the_mean_of_what_each_token_stands_for(family):
    model, entered = model_of(family), []
    pooled = ff.PVC(heads=2, blocks=1, pooled=True).untrained(shape(family))
    with torch.no_grad(), seen(model.model.language_model.layers[0].input_layernorm, entered):
        for method in (ff.SpatialPool(0.25), pooled):
            with ff.reduce(model, method):
                model(**inputs_of(family, 0))
    torch.testing.assert_close(entered[0], entered[1])


@pytest.mark.parametrize(("side", "kept"), [(1, 4), (2, 16)])
def test_llava_mini_leaves_so_many_tokens_of_a_frame(side, kept):
    reducer = ff.LLaVAMini(side, prefusion=1, heads=2).untrained(shape("llava"))
    with torch.no_grad(), ff.reduce(model_of("llava"), reducer) as reduction:
        model_of("llava").generate(**inputs_of("llava", 0), max_new_tokens=2, do_sample=False)
    assert reduction.report.kept_tokens == kept


def test_llava_mini_gives_the_decoder_what_its_module_makes():
    """The states that enter layer 0: fused tokens at the last patches of each frame, and the mean of fused texts."""
    model, inputs, reducer = model_of("llava"), inputs_of("llava", 0), reducer_of("llava_mini", "llava")
    patches, dense, short = [], [], []
    norm, projector = model.model.language_model.layers[0].input_layernorm, model.model.multi_modal_projector
    with torch.no_grad(), seen(projector, patches), seen(norm, dense):
        model(**inputs)
    with torch.no_grad(), ff.reduce(model, reducer), seen(norm, short):
        model(**inputs)
    visual = inputs["input_ids"][0] == model.config.image_token_index
    states, last = dense[0][0].clone(), visual.nonzero().flatten().unflatten(0, (4, -1))[:, -1]
    features, hidden = patches[0], states[visual].unflatten(0, (4, -1))
    side = round(features.shape[1] ** 0.5)
    place = (side, side), torch.arange(side * side)
    with torch.no_grad():
        # One frame after the other.
        made = [
            reducer.weights.module(features[f : f + 1], place, hidden[f : f + 1], states[~visual]) for f in range(4)
        ]
    states[~visual] = torch.cat([words for _, words in made]).mean(0)
    states[last] = torch.cat([tokens[0] for tokens, _ in made])
    left = torch.cat([last, (~visual).nonzero().flatten()]).sort().values
    torch.testing.assert_close(short[0][0], states[left], atol=1e-5, rtol=1e-5)


@contextmanager
def called(module, found):
    """The keywords that `module` is called with, in `found`."""
    handle = module.register_forward_pre_hook(lambda _, args, kwargs: found.append(kwargs), with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["llava_mini_together", "llava_mini_shared"])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_together_all_frames_are_one_sequence_at_the_positions_of_the_model(family, name):
    """Patches, few tokens at the places of the last patches, text; what they become enters layer 0."""
    model, inputs, reducer = model_of(family), inputs_of(family, 0), reducer_of(name, family)
    decoder, fusing = find_parts(model).decoder, reducer.weights.module
    dense, short, whole, asked = [], [], [], []
    with torch.no_grad(), seen(decoder.layers[0].input_layernorm, dense), called(decoder, whole):
        model(**inputs)
    entering, fusion = seen(decoder.layers[0].input_layernorm, short), called(fusing.prefusion, asked)
    with torch.no_grad(), ff.reduce(model, reducer), entering, fusion:
        model(**inputs)
    visual = torch.isin(inputs["input_ids"][0], torch.tensor(placeholder_ids(model.config)))
    patches, text = visual.nonzero().flatten(), (~visual).nonzero().flatten()
    last = patches.unflatten(0, (short[0].shape[1] - len(text), -1))[:, -1]
    states, given = dense[0][0], asked[0]["inputs_embeds"][0]
    assert torch.equal(given[: len(patches)], states[patches]) and torch.equal(given[-len(text) :], states[text])
    order = torch.cat([patches, last, text])
    known = whole[0].get("position_ids")
    wanted = order[None] if known is None else known[..., 0, order]
    assert torch.equal(asked[0]["position_ids"].reshape(-1, len(order)), wanted.reshape(-1, len(order)))
    with torch.no_grad():
        fused = through(fusing.prefusion, given[None], wanted.reshape(-1, len(order)))[0, len(patches) :]
    states[last], states[text] = fused[: len(last)], fused[len(last) :]
    torch.testing.assert_close(short[0][0], states[torch.cat([last, text]).sort().values], atol=1e-5, rtol=1e-5)


def test_frames_that_share_a_token_enter_pre_fusion_as_the_mean_of_theirs():
    model, inputs, entering = model_of("qwen2_5_vl"), inputs_of("qwen2_5_vl", 0), {}
    for name in ("llava_mini_together", "llava_mini_shared"):
        reducer, asked = reducer_of(name, "qwen2_5_vl"), []
        with torch.no_grad(), ff.reduce(model, reducer) as reduction, called(reducer.weights.module.prefusion, asked):
            model(**inputs)
            kept = reduction.report.kept_tokens
        patches = int(torch.isin(inputs["input_ids"], torch.tensor(placeholder_ids(model.config))).sum())
        entering[name] = asked[0]["inputs_embeds"][0, patches : patches + kept]
    alone, shared = entering.values()
    assert len(alone) == 2 * len(shared) and torch.allclose(shared, alone.unflatten(0, (-1, 2)).mean(1), atol=1e-6)


def test_frames_share_tokens_only_together():
    with pytest.raises(OptionError, match="frames = 2 needs together=True"):
        ff.LLaVAMini(frames=2)


def test_pre_fusion_begins_as_the_models_first_layers():
    model, reducer = model_of("llava"), ff.LLaVAMini(prefusion=2, heads=2).untrained(shape("llava"))
    layers = [block.layer.state_dict() for block in find_parts(model).blocks]
    reducer.begin(reducer.weights.module, layers)
    for layer, own in zip(reducer.weights.module.prefusion.layers, layers, strict=False):
        assert all(torch.equal(value, own[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llava_mini", {"side": 2}),
        ("llava_mini", {"prefusion": 2}),
        ("vqtoken", {"places": 9}),
        ("vqtoken", {"spans": 2}),
        ("vqtoken_spans", {"spans": 0}),
        ("vqtoken_spans", {"codes": 9}),
        ("vqtoken_codes", {"codes": 0}),
        ("vqtoken_codes", {"depth": 2}),
        ("pvc", {"shuffle": 3}),
        ("pvc", {"pooled": True}),
        ("pvc_pooled", {"pooled": False}),
    ],
)
def test_options_that_the_weights_were_not_made_with_are_refused(name, changes):
    with pytest.raises(OptionError, match=f"made with {next(iter(changes))} = ") as caught:
        replace(reducer_of(name, "llava"), **changes)
    assert caught.value.hint


@every_reducer
def test_gradients_reach_every_weight_of_the_reducer_and_none_of_the_model(name):
    model, inputs = model_of("llava_onevision"), inputs_of("llava_onevision", 0)
    reducer = reducer_of(name, "llava_onevision")
    module = reducer.weights.module
    model.requires_grad_(False)
    labels = inputs["input_ids"].clone()
    labels[:, :-2] = -100
    try:
        with ff.reduce(model, reducer):
            model(**inputs, labels=labels).loss.backward()
        silent = [key for key, value in module.named_parameters() if value.grad is None or not bool(value.grad.any())]
        # A bias of keys moves all logits of a softmax alike.
        assert [key for key in silent if "k_proj.bias" not in key] == []
    finally:
        module.zero_grad(set_to_none=True)
        model.requires_grad_(True)


@every_reducer
def test_saved_and_loaded_it_answers_alike(name, tmp_path):
    model, inputs, reducer = model_of("llava"), inputs_of("llava", 0), reducer_of(name, "llava")
    reducer.save(tmp_path / "reducer")
    loaded = ff.load_reducer(tmp_path / "reducer")
    with torch.no_grad():
        with ff.reduce(model, reducer):
            first = model(**inputs).logits
        with ff.reduce(model, loaded):
            torch.testing.assert_close(model(**inputs).logits, first, atol=1e-5, rtol=1e-5)


@every_reducer
def test_a_model_of_another_shape_is_refused(name):
    with pytest.raises(OptionError, match="another model"):
        ff.reduce(model_of("qwen2_5_vl"), reducer_of(name, "llava"))


@every_reducer
def test_a_chain_with_a_method_in_front(name):
    model, inputs = model_of("llava"), inputs_of("llava", 0)
    chain = ff.Chain(ff.Uniform(0.6), reducer_of(name, "llava"))
    with torch.no_grad(), ff.reduce(model, chain) as reduction:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert 0 < reduction.report.kept_tokens < 0.6 * reduction.report.visual_tokens


@every_reducer
def test_heads_that_do_not_divide_the_width_are_refused(name):
    with pytest.raises(OptionError, match="heads = 7 does not divide"):
        replace(REDUCERS[name], heads=7).untrained(shape("llava"))


@pytest.mark.parametrize("name", ["llava_mini", "pvc"])
def test_a_model_without_a_tower_is_refused(name):
    with pytest.raises(FrameFusionError, match="no vision tower"):
        REDUCERS[name].untrained(replace(shape("llava"), vision=None))
