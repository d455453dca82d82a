"""Published LLaVA-Mini and VQToken checkpoints, by name and size, become a stock model and a reducer."""

from __future__ import annotations

import json
import re

import pytest
import torch
from PIL import Image

import framefusion as ff
from framefusion.core.errors import CheckpointError
from framefusion.inference.published_reducers import load_llava_mini, load_vqtoken
from framefusion.methods.llava_mini import sine_cosine
from tests.reference.llava_mini import compressed, projected
from tests.reference.vqtoken import code_attention
from tests.support import original_trained as tiny
from tests.support.tiny import moving_clip

LOADERS = {"llava_mini": load_llava_mini, "vqtoken": load_vqtoken}
every_checkpoint = pytest.mark.parametrize("name", list(LOADERS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: tiny.save(name, tmp_path_factory.mktemp(name)) for name in LOADERS}


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: load(str(folders[name]), device="cpu") for name, load in LOADERS.items()}


def inputs_of(checkpoint, kind, visuals, text="what?"):
    content = [*({"type": kind} for _ in visuals), {"type": "text", "text": text}]
    prompt = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    options = {"videos": list(visuals), "do_sample_frames": False} if kind == "video" else {"images": list(visuals)}
    return dict(checkpoint.processor(text=[prompt], return_tensors="pt", **options))


def example(name, checkpoint, frames=4):
    clip = moving_clip(frames, 40, 40)
    if name == "vqtoken":
        return inputs_of(checkpoint, "video", [clip])
    return inputs_of(checkpoint, "image", [Image.fromarray(frame) for frame in clip[:2]])


@every_checkpoint
def test_every_weight_is_where_its_name_says(name, loaded):
    (checkpoint, reducer), stored = loaded[name], tiny.weights(name)
    model = checkpoint.model
    parts = model.model.language_model.state_dict() | {"lm_head.weight": model.lm_head.weight[: tiny.VOCABULARY]}
    parts["embed_tokens.weight"] = parts["embed_tokens.weight"][: tiny.VOCABULARY]
    for key, value in parts.items():
        assert torch.equal(value, stored[key if key.startswith("lm_head") else f"model.{key}"]), key
    for number, linear in ((0, "linear_1"), (2, "linear_2")):
        found = getattr(model.model.multi_modal_projector, linear)
        assert torch.equal(found.weight, stored[f"model.mm_projector.{number}.weight"])
    tower = {key.replace("vision_model.", ""): value for key, value in model.model.vision_tower.state_dict().items()}
    key = "encoder.layers.1.mlp.fc1.weight"
    assert torch.equal(tower[key], stored[f"model.vision_tower.vision_tower.vision_model.{key}"])
    state = reducer.weights.module.state_dict()
    key = {"llava_mini": "prefusion.layers.1.mlp.up_proj.weight", "vqtoken": "to_q_proj.weight"}[name]
    there = {"llava_mini": "model.prefusion_layers.1.mlp.up_proj.weight", "vqtoken": f"model.cross_attention.{key}"}
    assert torch.equal(state[key], stored[there[name]])
    assert not any(value.is_meta for value in [*state.values(), *reducer.weights.module.buffers()])


@every_checkpoint
def test_reduced_by_it_the_model_generates_and_is_restored(name, loaded):
    checkpoint, reducer = loaded[name]
    inputs = example(name, checkpoint)
    # The clip of 16 tokens would stay as it is.
    reducer = reducer.with_budget(5) if name == "vqtoken" else reducer
    with torch.no_grad():
        before = checkpoint.model(**inputs).logits
        with ff.reduce(checkpoint.model, reducer) as reduction:
            tokens = checkpoint.model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert torch.equal(checkpoint.model(**inputs).logits, before)
    assert tokens.shape[1] <= inputs["input_ids"].shape[1] + 3
    # Two pictures of four tokens; five clusters and the newline that ends a clip.
    assert reduction.report.kept_tokens == {"llava_mini": 8, "vqtoken": 6}[name] < reduction.report.visual_tokens


def test_the_modules_compute_what_the_published_weights_say(loaded):
    stored = {key: value.tolist() for key, value in tiny.weights("llava_mini").items()}
    module = loaded["llava_mini"][1].weights.module
    patches = torch.randn(tiny.PLACES, tiny.TOWER_WIDTH, generator=torch.Generator().manual_seed(1))
    place = (tiny.SIDE, tiny.SIDE), torch.arange(tiny.PLACES)
    own = {key.removeprefix("model.compressor."): value for key, value in stored.items()}
    projector = {key.removeprefix("model.mm_projector."): value for key, value in stored.items()}
    module.compressor.pos_embed.copy_(sine_cosine(2, tiny.TOWER_WIDTH))
    wanted = [projected(projector, x) for x in compressed(own, patches.tolist(), tiny.SIDE, tiny.SIDE, 2, 8)]
    with torch.no_grad():
        found = module.compressed(patches[None], place)[0]
        module.compressor.pos_embed.copy_(torch.tensor(stored["model.compressor.pos_embed"]))
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-5, rtol=1e-5)
    stored = {key.removeprefix("model.cross_attention."): v.tolist() for key, v in tiny.weights("vqtoken").items()}
    maps, means = torch.ones(2, tiny.PLACES), torch.randn(3, tiny.WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = loaded["vqtoken"][1].weights.module(maps, means)
    wanted = torch.tensor(code_attention(stored, maps.tolist(), means.tolist(), 8))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_rope_scaling_of_llama_3_1_reaches_decoder_and_pre_fusion(loaded):
    checkpoint, reducer = loaded["llava_mini"]
    decoder, prefusion = checkpoint.model.model.language_model, reducer.weights.module.prefusion
    plain = 1.0 / 5000.0 ** (torch.arange(0, 16, 2) / 16)
    assert not torch.allclose(decoder.rotary_emb.inv_freq, plain)
    assert torch.equal(decoder.rotary_emb.inv_freq, prefusion.rotary_emb.inv_freq)


@every_checkpoint
def test_shards_are_the_same(name, loaded, tmp_path):
    checkpoint, reducer = LOADERS[name](str(tiny.save(name, tmp_path / "sharded", shards=3)), device="cpu")
    whole = loaded[name]
    for one, two in ((checkpoint.model, whole[0].model), (reducer.weights.module, whole[1].weights.module)):
        for key, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[key]), key


@every_checkpoint
def test_dtype_is_that_of_the_model_and_its_reducer(name, folders):
    checkpoint, reducer = LOADERS[name](str(folders[name]), dtype="bfloat16", device="cpu")
    assert checkpoint.model.dtype == torch.bfloat16
    assert {value.dtype for value in reducer.weights.module.parameters()} == {torch.bfloat16}
    inputs = example(name, checkpoint)
    inputs = {key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad(), ff.reduce(checkpoint.model, reducer):
        assert bool(checkpoint.model(**inputs).logits.isfinite().all())


def refused(name, folder):
    with pytest.raises(CheckpointError) as caught:
        LOADERS[name](str(folder), device="cpu")
    error = caught.value
    assert error.what.startswith("cannot load the model") and error.why and error.hint
    return error.why


OWN = {"llava_mini": "model.prefusion_layers.1.", "vqtoken": "model.cross_attention.to_q_proj."}


@every_checkpoint
@pytest.mark.parametrize("shards", [1, 2])
def test_one_error_names_all_weights_that_are_wrong(name, shards, tmp_path):
    state = tiny.weights(name)
    lost = [key for key in state if key.startswith((OWN[name], "model.layers.0.mlp"))]
    for key in lost:
        del state[key]
    state["model.surplus.weight"] = torch.zeros(2)
    state["model.norm.weight"] = torch.zeros(tiny.WIDTH + 1)
    why = refused(name, tiny.save(name, tmp_path / "wrong", shards, state))
    assert f"it lacks {len(lost)} weights: " in why and sorted(lost)[0] in why
    assert f"and {len(lost) - 3} more" in why
    assert "it holds 1 weight that nothing reads: model.surplus.weight" in why
    assert "1 weight of another size: model.norm.weight is [65], not [64]" in why


@every_checkpoint
def test_renamed_weights_are_named_under_both_names(name, tmp_path):
    state = {re.sub(r"^model\.", "", key): value for key, value in tiny.weights(name).items()}
    why = refused(name, tiny.save(name, tmp_path / "renamed", state=state))
    assert "it lacks" in why and "that nothing reads" in why


@every_checkpoint
def test_tables_that_are_computed_may_be_stored(name, tmp_path):
    state = tiny.weights(name) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    LOADERS[name](str(tiny.save(name, tmp_path / "older", state=state)), device="cpu")


@every_checkpoint
def test_numbers_that_are_none_are_refused(name, tmp_path):
    state = tiny.weights(name)
    key = next(key for key in state if key.startswith(OWN[name]))
    state[key].view(-1)[0] = float("nan")
    assert key in refused(name, tiny.save(name, tmp_path / "nan", state=state))


BROKEN = {
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights cut off": lambda folder: (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}"),
    "no settings": lambda folder: (folder / "config.json").unlink(),
    "settings that are a list": lambda folder: (folder / "config.json").write_text("[]"),
    "no tower": lambda folder: change(folder, "mm_vision_tower", None),
    "a tower that is a number": lambda folder: change(folder, "mm_vision_tower", 3),
    "a tower that is not there": lambda folder: change(folder, "mm_vision_tower", "/no/such"),
    "another projector": lambda folder: change(folder, "mm_projector_type", "linear"),
    "more layers than weights": lambda folder: change(folder, "num_hidden_layers", 5),
    "another width": lambda folder: change(folder, "hidden_size", 128),
    "no heads": lambda folder: change(folder, "num_attention_heads", 0),
}


def change(folder, key, value):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {key: value}))


@every_checkpoint
@pytest.mark.parametrize("damage", list(BROKEN))
def test_a_damaged_checkpoint_is_one_error(name, damage, tmp_path):
    folder = tiny.save(name, tmp_path / "damaged")
    BROKEN[damage](folder)
    refused(name, folder)


@pytest.mark.parametrize("value", [0, -1, "two", 1.5, 10**6])
@pytest.mark.parametrize("key", ["compressor_size", "prefusion_layer_num"])
def test_sizes_of_no_module_are_refused(key, value, tmp_path):
    refused("llava_mini", tiny.save("llava_mini", tmp_path / "sizes", **{key: value}))


@pytest.mark.parametrize(("name", "other"), [("llava_mini", "vqtoken"), ("vqtoken", "llava_mini")])
def test_the_other_checkpoint_is_refused(name, other, folders):
    refused(name, folders[other])
