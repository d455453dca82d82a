"""The oracle of the benchmarks: independent, and the model itself where nothing is removed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import framefusion as ff
from benchmarks import oracle, shapes
from benchmarks.inputs import make_prompt, profile_of, video_tokens
from benchmarks.oracle import Oracle, cuts_of
from benchmarks.variants import Trial
from framefusion.core.method import after_attention
from framefusion.engine.model.cache_names import cache_name, cache_of
from tests.reference.framefusion import Reference, Token
from tests.reference.framefusion_merge import merge

CPU = torch.device("cpu")
FRAMES, PATCHES, WIDTH = 6, 8, 64


@pytest.fixture(scope="module")
def model():
    patch = pytest.MonkeyPatch()
    patch.setitem(shapes.TEXTS, "tiny", shapes.Text(WIDTH, 96, 6, 4, 2, 64))
    yield shapes.build("tiny", 6, torch.float32, CPU)
    patch.undo()


@pytest.fixture(scope="module")
def prompt():
    return make_prompt(FRAMES, PATCHES, WIDTH, torch.float32, CPU)


def stock(model, prompt):
    with torch.no_grad():
        return model(inputs_embeds=prompt.embeds, position_ids=prompt.positions, use_cache=True, logits_to_keep=1)


def test_it_imports_nothing_from_the_engine():
    nodes = ast.walk(ast.parse(Path(oracle.__file__).read_text(encoding="utf-8")))
    names = [getattr(node, "module", None) or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert names and not any("framefusion" in name for name in names)


def test_without_cuts_it_is_the_model(model, prompt):
    logits, cache = Oracle(model, prompt.embeds, prompt.positions, []).prefill()
    expected = stock(model, prompt)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-5)
    token = torch.tensor([[3]])
    with torch.no_grad():
        positions = torch.full((3, 1, 1), prompt.length)
        after = model(input_ids=token, position_ids=positions, **{cache_name(): cache_of(expected)})
    ours = Oracle(model, prompt.embeds, prompt.positions, []).decode(token, prompt.length, cache)
    torch.testing.assert_close(ours, after.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [ff.FastV(keep=0.4, layer=2), ff.DivPrune(keep=0.4)])
def test_where_tokens_are_only_selected_it_is_the_reduced_model(model, prompt, method):
    with ff.reduce(model, method, layout=prompt.layout) as reduction:
        output = stock(model, prompt)
    cuts = cuts_of(reduction.report.decisions, prompt.length)
    logits, cache = Oracle(model, prompt.embeds, prompt.positions, cuts).prefill()
    torch.testing.assert_close(logits, output.logits, rtol=1e-4, atol=1e-4)
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    assert lengths == [layer.keys.shape[-2] for layer in cache_of(output).layers]
    assert lengths[-1] < prompt.length


def test_variants_hold_as_many_tokens_and_both_stages_fire(model):
    prompt = make_prompt(30, 16, WIDTH, torch.float32, CPU)
    trial = Trial(model, prompt, ff.FrameFusion(cost=0.3, similarity_lower_bound=0.6), 2, CPU)
    parts = {name: run() for name, run in trial.runs().items()}
    assert {"prefill", "decode per token"} <= set(parts["oracle"]) and "decision and application" in parts["reduced"]
    assert trial.facts["reduced"]["kv_bytes"] == trial.facts["oracle"]["kv_bytes"] < trial.facts["dense"]["kv_bytes"]
    deeds = " ".join(trial.facts["reduced"]["steps"])
    assert "merges" in deeds and "prunes" in deeds and str(after_attention(1)) in deeds


def test_the_profile_is_that_of_a_video():
    profile = profile_of(video_tokens(64, 210, 256), 210)
    assert profile["median"] == pytest.approx(0.66, abs=0.03)
    assert profile["p5"] < 0.4 and profile["p95"] > 0.85


def test_the_published_steps_in_tensors_are_those_in_lists():
    tokens = video_tokens(7, 5, 16).to(torch.float64)
    hidden = torch.cat([torch.randn(2, 16, dtype=torch.float64), tokens, torch.randn(3, 16, dtype=torch.float64)])
    patch = torch.cat([torch.full((2,), -1), torch.arange(5).repeat(7), torch.full((3,), -1)])
    values, slots = merge(hidden, patch, 0.6)
    listed = [Token(n, value.tolist(), int(kind)) for n, (value, kind) in enumerate(zip(hidden, patch, strict=True))]
    left = Reference(0.01, 0.6, 0.1, 28, strict=True).merge(listed)
    assert [token.number for token in left] == slots.tolist() and len(slots) < len(hidden)
    torch.testing.assert_close(values, torch.tensor([token.value for token in left], dtype=torch.float64))
