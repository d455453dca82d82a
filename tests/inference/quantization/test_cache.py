"""Caches of few bits: rounded as the reference rounds, read as transformers' own, beside a reduction as well."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from transformers import DynamicCache

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.core.errors import CacheCropError, MissingPackageError, OptionError
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.evaluation.study.rows import in_half
from framefusion.inference.answer.answer import ask
from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.quantization import Precision, new_cache
from framefusion.inference.quantization.cache import cache_options, library_of
from framefusion.inference.quantization.groups import cached_shapes, group_for
from framefusion.inference.quantization.memory import cache_bytes
from framefusion.inference.quantization.rounding import round_trip
from framefusion.inference.reduction import reduce_clips
from framefusion.inference.video import write_clip
from framefusion.models.table import read_table
from framefusion.testing.conformance.toy import build, toy_of
from tests.behaviour.support import answer, families, identity, inputs, method, model
from tests.reference import quantization as reference
from tests.support.kernels import use_plain_quanto
from tests.support.tiny import FAMILIES, build_model, moving_clip, processor, redraw, save_checkpoint

needs_quanto = pytest.mark.skipif(find_spec("optimum") is None, reason="the quantised cache needs optimum-quanto")

needs_hqq = pytest.mark.skipif(find_spec("hqq") is None, reason="the quantised cache of 8 bits needs hqq")


@pytest.fixture
def plain_quanto(monkeypatch):
    """Where quanto is installed."""
    if find_spec("optimum") is not None:
        use_plain_quanto(monkeypatch)


@torch.no_grad()
def read(net, prompt, cache):
    return cache_of(net(**prompt, **{cache_name(): cache}, use_cache=True))


def test_the_first_layer_keeps_what_the_reference_keeps():
    net, prompt = model("qwen2_5_vl"), inputs("qwen2_5_vl")
    plain = read(net, prompt, DynamicCache(config=net.config.get_text_config())).layers[0]
    kept = read(net, prompt, new_cache(net, Precision.parse("kv=sim3,kv_group=8"))).layers[0]
    for rounded, whole in ((kept.keys, plain.keys), (kept.values, plain.values)):
        expected = [reference.rounded_row(row, 3, 8) for row in whole[0, 0, :5].tolist()]
        torch.testing.assert_close(rounded[0, 0, :5], torch.tensor(expected), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rounded, round_trip(whole, 3, 8))


@families("qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava_onevision", "gemma3")
def test_few_bits_cost_a_little_and_fewer_bits_more(name):
    """Sliding and recurrent layers too; eight bits beside a reduction change little."""
    net, prompt = model(name), inputs(name)

    @torch.no_grad()
    def logits(text):
        cache = new_cache(net, Precision.parse(text)) or DynamicCache(config=net.config.get_text_config())
        return net(**prompt, **{cache_name(): cache}, use_cache=True).logits[:, -1]

    whole = logits("")
    errors = [(logits(f"kv=sim{bits}") - whole).norm() / whole.norm() for bits in (8, 4, 2)]
    assert 0 < errors[0] < 0.05 and errors[0] < errors[1] < errors[2]
    with reduce_clips(net, method(name)):
        fewer = logits("")
        assert 0 < (logits("kv=sim8") - fewer).norm() < 0.1 * fewer.norm()


@families("qwen2_5_vl", "gemma3")
def test_answers_beside_a_reduction(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        whole = answer(net, prompt)
        cache = new_cache(net, Precision.parse("kv=sim8"))
        assert answer(net, prompt, **{cache_name(): cache}).shape == whole.shape
        fewer = cache_bytes(cache)
    dense = new_cache(net, Precision.parse("kv=sim8"))
    answer(net, prompt, **{cache_name(): dense})
    plain = DynamicCache(config=net.config.get_text_config())
    answer(net, prompt, **{cache_name(): plain})
    assert 0 < fewer < cache_bytes(dense) < cache_bytes(plain)


# What transformers is told for heads of 16 values: quanto's groups lie along axis 0 in its words, HQQ's along axis 1.
AXES = {"quanto": {"axis_key": 0, "axis_value": 0}, "hqq": {"axis_key": 1, "axis_value": 1}}
WRITTEN_OUT = {
    bits: {"backend": backend, "nbits": bits, "q_group_size": 16, **AXES[backend]}
    for bits, backend in ((2, "quanto"), (4, "quanto"), (8, "hqq"))
}


def one_head(name):
    """A toy whose decoder has a single head of 64 values."""
    config = FAMILIES[name].config(2)
    text = config.text_config
    text.num_attention_heads = text.num_key_value_heads = 1
    text.rope_parameters["mrope_section"] = [8, 12, 12]
    net = getattr(hf, FAMILIES[name].model_class)._from_config(config, attn_implementation="sdpa")
    redraw(net, 0)
    net.generation_config.pad_token_id, net.generation_config.eos_token_id = text.pad_token_id, None
    return net.eval()


@needs_quanto
@pytest.mark.usefixtures("plain_quanto")
def test_four_bits_are_what_transformers_does_when_told_nothing():
    """Its own groups of 64 are ours for heads of 64 values."""
    net, prompt = one_head("qwen2_5_vl"), inputs("qwen2_5_vl")
    expected = answer(net, prompt, 12, cache_implementation="quantized", cache_config={"backend": "quanto"}).tolist()
    assert answer(net, prompt, 12).tolist() != expected
    cache = new_cache(net, Precision.parse("kv=int4"))
    assert answer(net, prompt, 12, **{cache_name(): cache}).tolist() == expected


@pytest.mark.usefixtures("plain_quanto")
@pytest.mark.parametrize(
    "bits",
    [pytest.param(2, marks=needs_quanto), pytest.param(4, marks=needs_quanto), pytest.param(8, marks=needs_hqq)],
)
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_onevision"])
def test_a_librarys_cache_answers_as_through_transformers(name, bits):
    net, prompt = model(name), inputs(name)
    precision = Precision.parse(f"kv=int{bits}")
    options = {"backend": library_of(precision), **cache_options(net.config, precision)}
    assert options == WRITTEN_OUT[bits]
    expected = answer(net, prompt, 12, cache_implementation="quantized", cache_config=options).tolist()
    assert answer(net, prompt, 12, **{cache_name(): new_cache(net, precision)}).tolist() == expected
    with ff.reduce(net, identity()):
        assert answer(net, prompt, 12, **{cache_name(): new_cache(net, precision)}).tolist() == expected


@needs_quanto
@pytest.mark.usefixtures("plain_quanto")
@pytest.mark.parametrize("bits", [2, 4])
def test_a_librarys_cache_and_the_simulation_round_alike(bits):
    """Quanto's groups and steps are those of the simulation, so they agree within float32's rounding."""
    net, prompt = model("qwen2_5_vl"), inputs("qwen2_5_vl")
    real = read(net, prompt, new_cache(net, Precision.parse(f"kv=int{bits}"))).layers[0]
    simulated = read(net, prompt, new_cache(net, Precision.parse(f"kv=sim{bits}"))).layers[0]
    torch.testing.assert_close(real._dequantize(real._quantized_keys), simulated.keys, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(real._dequantize(real._quantized_values), simulated.values, atol=1e-5, rtol=1e-5)


@needs_hqq
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_hqq_and_the_simulation_differ_by_at_most_a_step(bits):
    """The steps are alike; HQQ moves the zero to where outliers weigh less, and keeps it in half precision."""
    net, prompt = model("qwen2_5_vl"), inputs("qwen2_5_vl")
    real = read(net, prompt, new_cache(net, Precision.parse(f"kv=int{bits},cache=hqq"))).layers[0]
    simulated = read(net, prompt, new_cache(net, Precision.parse(f"kv=sim{bits}"))).layers[0]
    plain = read(net, prompt, DynamicCache(config=net.config.get_text_config())).layers[0]
    pairs = (("keys", real._quantized_keys), ("values", real._quantized_values))
    for name, stored in pairs:
        whole, found = getattr(plain, name), real._dequantize(stored).view_as(getattr(plain, name))
        step = (whole.amax(-1, keepdim=True) - whole.amin(-1, keepdim=True)) / (2**bits - 1)
        apart = (found - getattr(simulated, name)).abs() / step
        assert apart.max() <= 1.0 + 2.0 ** (bits - 8), float(apart.max())
        assert (found != getattr(simulated, name)).any()


@needs_quanto
@pytest.mark.usefixtures("plain_quanto")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_librarys_bytes_and_the_simulations_count_alike(dtype):
    """Quanto's scale and least value take four bytes each in float32; in every row of a study they count two."""
    net, prompt = build_model("qwen2_5_vl", dtype=dtype), inputs("qwen2_5_vl", "long")
    precisions = {kind: Precision.parse(f"kv={kind}") for kind in ("16", "int4", "sim4")}
    caches = {kind: new_cache(net, precision) for kind, precision in precisions.items()}
    caches["16"] = DynamicCache(config=net.config.get_text_config())
    values = cache_bytes(read(net, prompt, caches["16"])) / dtype.itemsize
    name = str(dtype).removeprefix("torch.")
    counted = {
        kind: cache_bytes(read(net, prompt, caches[kind])) * in_half(name, precisions[kind])
        for kind in ("int4", "sim4")
    }
    assert counted["int4"] == counted["sim4"] == values * (4 + 32 / 16) / 8
    assert values * dtype.itemsize * in_half(name, precisions["16"]) == values * 2
    # Newer entries of a library's cache stay whole at first.
    width = net.config.get_text_config().hidden_size // net.config.get_text_config().num_attention_heads
    states = torch.zeros(1, 2, 3, width, dtype=dtype)
    before = cache_bytes(caches["int4"])
    caches["int4"].update(states, states, 0)
    assert cache_bytes(caches["int4"]) == before + 2 * states.numel() * 2


def test_an_answer_takes_the_checkpoints_cache():
    net = model("qwen2_5_vl")
    found = Checkpoint("tiny", net, processor("qwen2_5_vl"), precision=Precision.parse("kv=sim4"))
    narrow = ask(found, inputs("qwen2_5_vl"), None, 3)
    whole = ask(Checkpoint("tiny", net, found.processor), inputs("qwen2_5_vl"), None, 3)
    assert narrow.kv_bytes == whole.kv_bytes * (4 + 32 / 16) / 32


def test_sixteen_bits_take_the_models_own_cache():
    assert new_cache(model("qwen2_5_vl"), Precision()) is None


WRONG = {
    "kv=sim4,kv_group=5": "does not divide",
    "kv=int8,cache=quanto": "hqq",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_refused(text):
    with pytest.raises(OptionError) as error:
        new_cache(model("qwen2_5_vl"), Precision.parse(text))
    assert WRONG[text] in str(error.value)


@needs_quanto
def test_a_model_without_a_quantised_cache():
    with pytest.raises(OptionError) as error:
        new_cache(model("gemma3"), Precision.parse("kv=int4"))
    assert "kv=sim4" in error.value.hint


def test_a_missing_library_says_what_to_install(monkeypatch):
    from framefusion.inference.quantization import libraries

    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as error:
        new_cache(model("qwen2_5_vl"), Precision.parse("kv=int8"))
    assert "pip install hqq" in error.value.hint and "kv=sim8" in error.value.hint


def sized(heads: int, width: int, **others):
    """A configuration of one kind of layers; others: further settings of the decoder."""
    text = SimpleNamespace(num_key_value_heads=heads, num_attention_heads=heads, head_dim=width, **others)
    return SimpleNamespace(get_text_config=lambda decoder: text)


@pytest.mark.parametrize(
    ("width", "expected"), [(16, 16), (64, 64), (80, 40), (96, 48), (128, 64), (72, 36), (256, 64), (112, 56), (61, 61)]
)
@pytest.mark.parametrize("kind", ["int4", "int2", "sim3"])
def test_groups_are_the_largest_that_divide_a_head(width, expected, kind):
    precision = Precision.parse(f"kv={kind}")
    assert group_for(sized(4, width), None, precision.kv.bits, packs_groups=False) == expected


@pytest.mark.parametrize(
    ("heads", "width", "bits", "expected"),
    [(4, 16, 2, 16), (2, 16, 2, 8), (1, 64, 4, 32), (1, 64, 2, 16), (3, 80, 4, 40), (1, 64, 8, 64), (8, 128, 4, 64)],
)
def test_hqq_packs_whole_bytes_whatever_the_prompts_length(heads, width, bits, expected):
    assert group_for(sized(heads, width), None, bits, packs_groups=True) == expected


def test_hqq_without_any_group_that_fits():
    with pytest.raises(OptionError, match="cache=quanto"):
        group_for(sized(3, 5), None, 4, packs_groups=True)


def test_layers_of_several_sizes_share_a_group_that_divides_all():
    latent = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    assert group_for(sized(16, 64, **latent), None, 4, packs_groups=False) == 64
    with pytest.raises(OptionError, match="512"):
        group_for(sized(16, 64, **latent), 48, 4, packs_groups=False)
    layers = [sized(2, 24).get_text_config(True), sized(1, 40).get_text_config(True)]
    mixed = SimpleNamespace(is_heterogeneous=True, per_layer_config=layers)
    assert group_for(SimpleNamespace(get_text_config=lambda decoder: mixed), None, 4, packs_groups=False) == 8


@pytest.mark.parametrize("name", ["gemma4", "kimi_k25", "mistral4", "gemma3n", "qwen3_vl"])
def test_groups_are_known_before_a_prompt_is_read(name):
    """Families whose layers or whose keys and values differ in size."""
    row = read_table()[name]
    toy = toy_of(build(name, row.model))
    with torch.no_grad():
        cache = cache_of(toy.model(**toy.prompt().inputs, use_cache=True))
    shapes = cached_shapes(toy.model.config)
    states = [
        states for layer in cache.layers for states in (getattr(layer, "keys", None), getattr(layer, "values", None))
    ]
    found = {(one.shape[1], one.shape[-1]) for one in states if one is not None and one.ndim == 4 and one.shape[-1]}
    assert found and found <= shapes


@pytest.mark.parametrize(
    "text",
    [
        *("kv=int4,kv_group=7", "kv=int2,kv_group=64", "kv=sim4,kv_group=7"),
        pytest.param("kv=int8,kv_group=7", marks=needs_hqq),
        pytest.param("kv=int4,kv_group=5,cache=hqq", marks=needs_hqq),
    ],
)
def test_a_command_refuses_groups_before_it_reads_weights(text, tmp_path, capsys):
    if "sim" not in text and "hqq" not in text and "int8" not in text and find_spec("optimum") is None:
        pytest.skip("the quantised cache needs optimum-quanto")
    folder, video = tmp_path / "model", tmp_path / "clip.mp4"
    save_checkpoint("qwen2_5_vl", folder, layers=1)
    (folder / "model.safetensors").unlink()
    write_clip(video, moving_clip(2), fps=4)
    assert run_app(["run", str(video), "What?", "--model", str(folder), "--quantize", text]) == 2
    assert "kv_group" in capsys.readouterr().err


@needs_quanto
@pytest.mark.usefixtures("plain_quanto")
@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_onevision"])
@torch.no_grad()
def test_a_packed_cache_is_cropped_where_it_is_whole_and_nowhere_else(name, reduced):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)) if reduced else nullcontext():
        cache = cache_of(net(**prompt, **{cache_name(): new_cache(net, Precision.parse("kv=int4"))}, use_cache=True))
        length = cache.get_seq_length()
        with pytest.raises(CacheCropError):
            cache.crop(-3)
        assert cache.get_seq_length() == length
        word = prompt["input_ids"][:, -1:]
        logits = [net(input_ids=word, **{cache_name(): cache}).logits for _ in range(3)]
        cache.crop(-2)
        assert cache.get_seq_length() == length + 1
        again = net(input_ids=word, **{cache_name(): cache}).logits
        torch.testing.assert_close(again, logits[1], atol=1e-4, rtol=1e-4)
        with pytest.raises(CacheCropError):
            cache.crop(-3)


@needs_quanto
@pytest.mark.usefixtures("plain_quanto")
@pytest.mark.parametrize("given", ["object", "name"])
def test_drafts_are_refused_before_a_packed_cache_holds_them(given):
    net, prompt = model("qwen2_5_vl"), inputs("qwen2_5_vl")
    named = {"cache_implementation": "quantized", "cache_config": {"backend": "quanto", "q_group_size": 16}}
    with ff.reduce(net, method("qwen2_5_vl")), pytest.raises(CacheCropError):
        options = {cache_name(): new_cache(net, Precision.parse("kv=int4"))} if given == "object" else named
        answer(net, prompt, 4, prompt_lookup_num_tokens=2, **options)
