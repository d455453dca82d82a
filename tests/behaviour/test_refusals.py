"""What is refused: each with its own error, a reason and a hint, and all of it in one table of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers as hf

import framefusion as ff
from framefusion.core import errors
from framefusion.core.registry import family_of
from framefusion.engine.model.cache_names import cache_name
from framefusion.inference.reduction import reduce_clips
from framefusion.methods.prumerge import PruMerge
from framefusion.methods.random import Random
from tests.behaviour.support import CLIP, answer, few_families, identity, inputs, method, model
from tests.support.tiny import build_model, prompt

TABLE = Path(__file__).parents[2] / "docs" / "refusals.md"
NAME = "qwen2_5_vl"
METHOD = ff.FrameFusion(cost=0.4)


def refuse(error, action):
    """`action` raises exactly `error`, with a hint."""
    with pytest.raises(error) as caught:
        action()
    assert type(caught.value) is error
    assert caught.value.what and caught.value.hint
    assert caught.value.what in str(caught.value) and "hint: " in str(caught.value)


def generate(**options):
    def action():
        with ff.reduce(model(NAME), METHOD):
            answer(model(NAME), inputs(NAME), 2, **options)

    return action


def test_a_compiled_model():
    refuse(errors.CompiledModelError, lambda: ff.reduce(torch.compile(model(NAME), backend="eager"), METHOD))


def test_a_model_compiled_in_place():
    net = build_model(NAME)
    net.compile(backend="eager")
    refuse(errors.CompiledModelError, lambda: ff.reduce(net, METHOD))


def test_one_compiled_layer():
    net = build_model(NAME)
    net.get_decoder().layers[1].compile(backend="eager")
    refuse(errors.CompiledModelError, lambda: ff.reduce(net, METHOD))
    net = build_model(NAME)
    net.get_decoder().layers[1] = torch.compile(net.get_decoder().layers[1], backend="eager")
    refuse(errors.CompiledModelError, lambda: ff.reduce(net, METHOD))


def test_a_static_cache_by_name():
    refuse(errors.StaticCacheError, generate(cache_implementation="static"))


def test_a_static_cache_in_a_configuration():
    config = hf.GenerationConfig(cache_implementation="static", max_new_tokens=2)
    refuse(errors.StaticCacheError, generate(generation_config=config))


def test_a_static_cache_object():
    cache = hf.StaticCache(config=model(NAME).config.get_text_config(), max_cache_len=256)
    refuse(errors.StaticCacheError, generate(**{cache_name(): cache}))

    def bare():
        with ff.reduce(model(NAME), METHOD):
            model(NAME)(**inputs(NAME), **{cache_name(): cache})

    refuse(errors.StaticCacheError, bare)


@few_families
@pytest.mark.parametrize("kind", ["static", "hybrid"])
def test_a_static_cache_nobody_asked_for_is_replaced(name, kind):
    """Some checkpoints name one as their default."""
    net = build_model(name)
    expected = answer(net, inputs(name))
    net.generation_config.cache_implementation = kind
    with ff.reduce(net, identity()):
        assert answer(net, inputs(name)).tolist() == expected.tolist()
    with reduce_clips(net, method(name)) as reduction:
        answer(net, inputs(name))
    assert reduction.report.kv_bytes < reduction.report.kv_bytes_dense
    assert net.generation_config.cache_implementation == kind


def test_drafts_from_the_first_layers():
    config = hf.GenerationConfig(assistant_early_exit=1, max_new_tokens=2)
    refuse(errors.AssistedDecodingError, generate(generation_config=config))


def test_chunked_prefill():
    refuse(errors.ChunkedPrefillError, generate(prefill_chunk_size=16))


def test_continuous_batching():
    with ff.reduce(model(NAME), METHOD):
        refuse(errors.ContinuousBatchingError, lambda: model(NAME).generate_batch(inputs=[[1, 2, 3]]))
        refuse(errors.ContinuousBatchingError, lambda: model(NAME).init_continuous_batching())


def test_a_reduced_model():
    with ff.reduce(model(NAME), METHOD):
        refuse(errors.AlreadyReducedError, lambda: ff.reduce(model(NAME), METHOD))
        refuse(errors.AlreadyReducedError, lambda: ff.reduce(model(NAME).model.language_model, METHOD))


def test_an_encoder_decoder_model():
    config = hf.BartConfig(
        vocab_size=32, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8,
    )  # fmt: skip
    refuse(errors.UnsupportedModelError, lambda: ff.reduce(hf.BartForConditionalGeneration(config), METHOD))


def test_something_that_is_no_language_model():
    refuse(errors.UnsupportedModelError, lambda: ff.reduce(torch.nn.Linear(2, 2), METHOD))
    refuse(errors.UnsupportedModelError, lambda: ff.reduce(model(NAME).model.visual, METHOD))
    refuse(errors.UnsupportedModelError, lambda: ff.reduce("a name", METHOD))


def test_sizes_that_do_not_match_the_prompt():
    given = prompt(NAME, [[("video", CLIP), ("text", "?")]])
    given["video_grid_thw"] = given["video_grid_thw"] + torch.tensor([[9, 0, 0]])

    layout = family_of(NAME).layout
    refuse(errors.LayoutError, lambda: layout(model(NAME).config, given, given["input_ids"]))


def test_a_layout_that_does_not_match_the_prompt():
    layout = ff.Layout.from_patch_types([[-1, *range(4), *range(4), -1]])
    decoder = model(NAME).model.language_model

    def action(embeds):
        with ff.reduce(decoder, METHOD, layout=layout):
            decoder(inputs_embeds=embeds)

    refuse(errors.LayoutError, lambda: action(torch.zeros(1, 5, 64)))
    with ff.reduce(decoder, METHOD, layout=ff.Layout(layout.rows * 2, 10)):
        refuse(errors.LayoutError, lambda: decoder(inputs_embeds=torch.zeros(3, 10, 64)))


@pytest.mark.parametrize("argument", ["framefusion", 0.3, None, ff.FrameFusion])
def test_a_method_that_is_none(argument):
    refuse(errors.OptionError, lambda: ff.reduce(model(NAME), argument))


def test_options_out_of_range():
    refuse(errors.OptionError, lambda: ff.FrameFusion(cost=0.0))
    refuse(errors.OptionError, lambda: ff.FrameFusion(similarity_lower_bound=2.0))
    refuse(errors.OptionError, lambda: ff.FrameFusion(ratio_lower_bound=-1.0))
    refuse(errors.OptionError, lambda: ff.FrameFusion(query_rows=0))


def test_a_refused_call_leaves_the_model_usable():
    expected = answer(model(NAME), inputs(NAME))
    for options in ({"cache_implementation": "static"}, {"prefill_chunk_size": 4}):
        with ff.reduce(model(NAME), identity()):
            with pytest.raises(errors.FrameFusionError):
                answer(model(NAME), inputs(NAME), **options)
            assert answer(model(NAME), inputs(NAME)).tolist() == expected.tolist()


def test_reentrant_checkpointing_of_recurrent_layers():
    def action():
        net = build_model("qwen3_5")
        net.gradient_checkpointing_enable({"use_reentrant": True})
        with ff.reduce(net.train(), METHOD):
            net(**inputs("qwen3_5"))

    refuse(errors.CheckpointingError, action)


def test_a_layer_the_model_does_not_have():
    def action():
        with ff.reduce(model(NAME), Random(layer=40)):
            answer(model(NAME), inputs(NAME), 2)

    refuse(errors.UnsupportedPointError, action)


def test_tower_signals_of_compressed_frames():
    def action():
        with ff.reduce(model("video_llama_3"), PruMerge()):
            answer(model("video_llama_3"), inputs("video_llama_3"), 2)

    refuse(errors.MissingSignalError, action)


def test_the_table_lists_exactly_what_the_code_raises():
    """Errors of the video reader, the registries, lmms-eval and map may be there, but are no refusals of a model."""
    others = {"VideoError", "UnknownNameError", "HarnessError", "WorkerError", "FrameFusionError"}
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FrameFusionError) and name not in others
    }
    classes -= {name for name in classes if issubclass(getattr(errors, name), errors.VideoError)}
    source = "\n".join(path.read_text() for path in Path(ff.__file__).parent.rglob("*.py"))
    raised = {name for name in classes if re.search(rf"raise {name}\(", source)}
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("|")][2:]
    listed = {cell for row in rows for cell in re.findall(r"`(\w+Error)`", row)}
    assert all(hasattr(errors, name) for name in listed)
    assert listed & classes == raised
    for row in rows:
        assert all(cell.strip() for cell in row.strip("|").split("|")[:4]), row
