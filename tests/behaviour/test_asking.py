"""Which words choose: those of the prompt, whatever stands behind it and whatever stands in front of it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

import framefusion as ff
from framefusion.methods.dart import DART
from framefusion.methods.trimtokenator import TrimTokenator
from tests.behaviour.support import families, inputs, model
from tests.support.tiny import build_model, moving_clip, prompt

NEW = 6
QUERY_AWARE = [
    ff.SparseVLM(keep=0.3),
    ff.CDPruner(keep=0.3),
    DART(keep=0.3, layer=1),
    TrimTokenator(keep=0.3),
    ff.FastV(keep=0.3, layer=1),
    ff.FrameFusion(cost=0.3),
]
every_method = pytest.mark.parametrize("way", QUERY_AWARE, ids=lambda way: type(way).__name__)
some_families = families("llava_onevision", "qwen2_5_vl", "internvl")


def with_answer(given, answer):
    """The prompt `given` with (B, n) tokens behind it."""
    more = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
    more |= {name: torch.zeros_like(answer) for name in ("mm_token_type_ids", "token_type_ids")}
    return {name: torch.cat([value, more[name]], 1) if name in more else value for name, value in given.items()}


def near(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@some_families
@every_method
@torch.no_grad()
def test_an_answer_does_not_choose(name, way):
    """Generated with and without a cache, scored by the logits that are kept, and trained on: the same logits."""
    net, given = model(name), inputs(name)
    end = given["input_ids"].shape[1]
    told = {"max_new_tokens": NEW, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with ff.reduce(net, way):
        written = net.generate(**given, **told)
        expected = torch.stack(written.logits, 1)
        again = net.generate(**given, **told, use_cache=False)
        whole = with_answer(given, written.sequences[:, end:])
        labels = whole["input_ids"].clone()
        labels[:, :end] = -100
        places = torch.arange(end - 1, end + NEW)
        near(torch.stack(again.logits, 1), expected)
        near(net(**whole, logits_to_keep=NEW + 1).logits[:, :-1], expected)
        near(net(**whole, logits_to_keep=places).logits[:, :-1], expected)
        near(net(**whole, logits_to_keep=places - end - NEW).logits[:, :-1], expected)
        near(net(**whole, logits_to_keep=places.tolist()).logits[:, :-1], expected)
        near(net(**whole, labels=labels).logits[:, end - 1 : -1], expected)
    assert torch.equal(again.sequences, written.sequences)


@families("llava_onevision", "internvl", "gemma3")
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_keys_of_a_padded_row_are_those_of_the_row_alone(name, side):
    rows = [[("video", moving_clip(4, change=0.5)), ("text", "what happens in all of this?")]]
    rows.append([("video", moving_clip(4, change=0.7, seed=2)), ("text", "who?")])
    net, both = model(name), prompt(name, rows, side)
    with ff.reduce(net, DART(keep=0.3, layer=1)):
        found = net(**both).logits
        for number, row in enumerate(rows):
            last = int(both["attention_mask"][number].nonzero().max())
            near(found[number, last], net(**prompt(name, [row])).logits[0, -1])


def tuned(name, kind, virtual):
    """A model whose prompts begin with `virtual` learned columns."""
    import peft

    net = build_model(name)
    text = net.config.get_text_config()
    width, heads = text.hidden_size, text.num_attention_heads
    if kind == "PrefixTuningConfig":
        head = getattr(text, "head_dim", None) or width // heads
        width, heads = text.num_key_value_heads * head, text.num_key_value_heads
    sizes = {"token_dim": width, "num_layers": text.num_hidden_layers, "num_attention_heads": heads}
    torch.manual_seed(0)
    config = getattr(peft, kind)(task_type=peft.TaskType.CAUSAL_LM, num_virtual_tokens=virtual, **sizes)
    return peft.get_peft_model(net, config).eval()


@pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PromptEncoderConfig"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@families("llava_onevision", "internvl")
@torch.no_grad()
def test_virtual_tokens_in_front_are_counted(name, kind, cached):
    net, given = tuned(name, kind, 7), inputs(name)
    with ff.reduce(net, ff.FastV(keep=0.2, layer=1)) as reduction:
        net.generate(**given, max_new_tokens=3, do_sample=False, use_cache=cached)
        generated = [decision.columns[decision.plan.keep] for decision in reduction.report.decisions[-2:]]
        net(**given)
        alone = [decision.columns[decision.plan.keep] for decision in reduction.report.decisions[-2:]]
    assert all(map(torch.equal, generated, alone))


@families("llava_onevision", "internvl")
@torch.no_grad()
def test_a_prefix_in_the_cache_is_counted(name):
    """As PEFT's prefix tuning does it: keys that no ids belong to are in the cache before the prompt is read."""
    from transformers import DynamicCache

    from framefusion.engine.model.cache_names import cache_name

    net, given = model(name), inputs(name, "long")
    text, length = net.config.get_text_config(), given["input_ids"].shape[1]
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    draw = torch.Generator().manual_seed(0)

    def prefix():
        cache = DynamicCache(config=text)
        shape = (1, text.num_key_value_heads, 9, head)
        for layer in range(text.num_hidden_layers):
            cache.update(*(torch.randn(shape, generator=draw.manual_seed(layer)) for _ in range(2)), layer)
        return cache

    longer = {**given, "attention_mask": torch.ones(1, length + 9, dtype=torch.long)}
    own = net.prepare_inputs_for_generation

    def with_prefix(*args, **kwargs):
        ready = own(*args, **{**kwargs, "attention_mask": given["attention_mask"]})
        return {**ready, cache_name(): prefix(), "attention_mask": longer["attention_mask"], "position_ids": None}

    with ff.reduce(net, ff.FastV(keep=0.2, layer=1)) as reduction:
        net(**longer, **{cache_name(): prefix()})
        alone = reduction.report.decisions[-1]
        net.prepare_inputs_for_generation = with_prefix
        try:
            net.generate(**given, max_new_tokens=1, do_sample=False)
        finally:
            del net.prepare_inputs_for_generation
        generated = reduction.report.decisions[-1]
    assert torch.equal(generated.columns[generated.plan.keep], alone.columns[alone.plan.keep])


@families("llava_onevision", "qwen2_5_vl")
@torch.no_grad()
def test_no_word_behind_the_pictures_asks(name):
    """A caption trained on directly behind a picture: no word of the prompt is left to rate it."""
    net, given = model(name), inputs(name)
    last = int((given["input_ids"] == net.config.video_token_id).nonzero()[-1, 1])
    with ff.reduce(net, ff.SparseVLM(keep=0.3)):
        kept = net(**given, logits_to_keep=list(range(last, given["input_ids"].shape[1]))).logits
    assert kept.isfinite().all()
