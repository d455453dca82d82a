"""ToMe inside CLIP and SigLIP towers, against a plain transcription of the paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import nn

import framefusion as ff
from framefusion.core.errors import OptionError, UnsupportedPointError
from framefusion.core.layout import MARKER, Geometry
from framefusion.core.method import after_attention
from framefusion.methods.tome import ToMe
from framefusion.testing.signals import make_signals
from tests.reference.tome import merge_block
from tests.support.tiny import FAMILIES, build_model, moving_clip, prompt

CLIP = [("video", moving_clip(frames=2, change=1.0)), ("text", "what?")]
OTHER = [("text", "and "), ("video", moving_clip(frames=2, seed=4, change=1.0)), ("text", "then what happens?")]


def geometry_of(side: int, class_token: bool) -> Geometry:
    minus = torch.full((1,), -1)
    first = [Geometry(minus * 0 + MARKER, minus * 0, minus * 0, minus, minus, minus)] if class_token else []
    return Geometry.cat([*first, Geometry.grid(1, side, side)])


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_one_block_equals_the_transcription(seed: int, class_token: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    geometry = geometry_of(5, class_token)
    total = len(geometry)
    values, keys = torch.randn(total, 6, generator=draw), torch.randn(total, 3, 4, generator=draw)
    size = torch.randint(1, 4, (total,), generator=draw).float()
    given = values.clone()
    signals = make_signals(geometry, given, after_attention(0), keys=keys, size=size)
    plan = ToMe(keep=0.5).decide(signals, 0, 2, 25)
    merged, sizes, places = merge_block(
        values.tolist(), keys.mean(1).tolist(), size.tolist(), 25 - round(25 - 12 * 0.5), class_token
    )
    assert plan.keep.tolist() == places
    assert torch.allclose(plan.apply(values), torch.tensor(merged), atol=1e-6)
    assert torch.equal(plan.sizes(size), torch.tensor(sizes))
    assert torch.equal(given, values)


def run(family: str, method: ToMe, *rows: list) -> tuple[torch.Tensor, ff.Reduction]:
    model = build_model(family)
    with torch.no_grad(), ff.reduce(model, method) as reduction:
        logits = model(**prompt(family, list(rows))).logits
    return logits, reduction


@pytest.mark.parametrize("family", ["llava", "llava_onevision", "gemma3", "smolvlm"])
def test_keeping_everything_changes_nothing(family: str) -> None:
    model = build_model(family)
    with torch.no_grad():
        dense = model(**prompt(family, [CLIP])).logits
    assert torch.equal(run(family, ToMe(keep=1.0), CLIP)[0], dense)
    assert not torch.equal(run(family, ToMe(keep=0.4), CLIP)[0], dense)


def test_merged_patches_leave_the_prompt_where_they_are_tokens() -> None:
    _, reduction = run("llava", ToMe(keep=0.4), CLIP)
    assert reduction.report.visual_tokens == 2 * 64
    assert reduction.report.kept_tokens == 2 * round(0.4 * 64)


def test_a_pooling_projector_keeps_the_prompt() -> None:
    _, reduction = run("llava_onevision", ToMe(keep=0.4), CLIP)
    assert reduction.report.kept_fraction == 1.0


@pytest.mark.parametrize("family", ["llava", "llava_onevision"])
def test_a_batch_equals_its_rows(family: str) -> None:
    both, _ = run(family, ToMe(keep=0.4), CLIP, OTHER)
    for number, row in enumerate((CLIP, OTHER)):
        alone, _ = run(family, ToMe(keep=0.4), row)
        assert torch.allclose(both[number, -alone.shape[1] :], alone[0], atol=1e-4)


def test_the_tower_equals_a_hand_computation() -> None:
    """The blocks of a CLIP tower, run from their own submodules with merging and proportional attention."""
    model, method = build_model("llava"), ToMe(keep=0.4)
    pixels = prompt("llava", [CLIP])["pixel_values"]
    tower = model.model.vision_tower
    with torch.no_grad():
        with ff.reduce(model, method):
            found = tower(pixels, output_hidden_states=True).hidden_states[-2]
        states = tower.pre_layrnorm(tower.embeddings(pixels))
        for picture in range(pixels.shape[0]):
            expected = by_hand(tower.encoder.layers[:-1], states[picture], method)
            assert torch.allclose(found[picture], expected, atol=1e-5)


def heads_of(states: torch.Tensor, heads: int) -> torch.Tensor:
    """(P, C) -> (H, P, d)"""
    return states.view(len(states), heads, -1).transpose(0, 1)


def by_hand(blocks: list, hidden: torch.Tensor, method: ToMe) -> torch.Tensor:
    geometry, size = geometry_of(8, True), torch.ones(65)
    home = torch.arange(65)
    for number, block in enumerate(blocks):
        normed, attention = block.layer_norm1(hidden), block.self_attn
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        query, key, value = (heads_of(projection(normed), attention.num_heads) for projection in projections)
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + size.log()
        mixed = (F.softmax(logits, -1) @ value).transpose(0, 1).flatten(1)
        hidden = hidden + attention.out_proj(mixed)
        signals = make_signals(geometry, hidden, after_attention(number), keys=key.transpose(0, 1), size=size)
        plan = method.decide(signals, number, len(blocks), 64)
        hidden, size, geometry, home = plan.apply(hidden), plan.sizes(size), geometry[plan.keep], plan.owner[home]
        hidden = hidden + block.mlp(block.layer_norm2(hidden))
    return hidden[home]


class Hidden(nn.Module):
    """A block of which nothing can be seen from outside."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.inner = block

    def forward(self, hidden_states: torch.Tensor, **given: Any) -> torch.Tensor:
        return self.inner(hidden_states, **given)


class Halving(Hidden):
    """A block that joins its patches itself."""

    def __init__(self, block: Any) -> None:
        super().__init__(block)
        self.norm2 = block.norm2

    def forward(self, hidden_states: torch.Tensor, **given: Any) -> torch.Tensor:
        return super().forward(hidden_states, **given)[::2]


@pytest.mark.parametrize(("block", "why"), [(Hidden, "norm between attention and MLP"), (Halving, "other rows than")])
def test_other_towers_are_refused(block: type[Hidden], why: str) -> None:
    model = build_model("qwen2_5_vl")
    model.model.visual.blocks = nn.ModuleList(map(block, model.model.visual.blocks))
    refused = pytest.raises(UnsupportedPointError, match="no blocks to merge in")
    with torch.no_grad(), refused as told, ff.reduce(model, ToMe(keep=0.4)):
        model(**prompt("qwen2_5_vl", [CLIP]))
    assert why in str(told.value)


def test_positions_of_every_patch_of_a_batch_are_refused() -> None:
    """DINOv3's blocks are handed one rotary table for all pictures, which keep unlike patches."""
    config = FAMILIES["llava"].config(2)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    config.vision_config = hf.DINOv3ViTConfig(**sizes, image_size=56, patch_size=7)
    model = hf.LlavaForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()
    refused = pytest.raises(UnsupportedPointError, match="for every patch of a picture")
    with ff.reduce(model, ToMe(keep=0.4)), torch.no_grad(), refused:
        model.model.vision_tower(torch.randn(2, 3, 56, 56))


def test_a_tower_under_autograd_is_refused() -> None:
    model = build_model("llava")
    with ff.reduce(model, ToMe()), pytest.raises(UnsupportedPointError, match="autograd"):
        model(**prompt("llava", [CLIP]))


def test_undo_is_exact_also_after_a_refusal() -> None:
    model = build_model("llava")
    inputs = prompt("llava", [CLIP])
    with torch.no_grad():
        dense = model(**inputs).logits
        with ff.reduce(model, ToMe(keep=0.3)):
            model(**inputs)
        assert torch.equal(model(**inputs).logits, dense)
    assert not model.model.vision_tower.encoder.layers[0].layer_norm2._forward_pre_hooks


@pytest.mark.parametrize("keep", [0.0, 1.5, 0, True])
def test_bad_options_raise(keep: float) -> None:
    with pytest.raises(OptionError):
        ToMe(keep=keep)


def test_half_precision_and_equal_patches() -> None:
    geometry = geometry_of(4, True)
    values = torch.ones(17, 8, dtype=torch.bfloat16)
    signals = make_signals(geometry, values, after_attention(0), keys=torch.zeros(17, 2, 4, dtype=torch.bfloat16))
    plan = ToMe(keep=8).decide(signals, 0, 1, 16)
    assert plan.kept == 9 and plan.keep[0] == 0
    assert torch.equal(plan.apply(values), values[:9])
