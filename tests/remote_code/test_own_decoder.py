"""A decoder whose layers and attention are the checkpoint's own code, in the shape of InternLM 2: other names for its
parts, attention computed in place. Its layers are found by shape; its attention cannot be observed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel, Qwen2Config
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

import framefusion as ff
from framefusion.core.errors import MissingSignalError
from tests.support.tiny import redraw

WIDTH, HEADS, LAYERS = 32, 4, 4
PATCHES, FRAMES = 6, 4
TYPES = [-1] * 5 + list(range(PATCHES)) * FRAMES + [-1] * 5
LAYOUT = ff.Layout.from_patch_types([TYPES])


class OwnAttention(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.wqkv, self.wo = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states, attention_mask, past_key_value):
        parts = self.wqkv(hidden_states).unflatten(-1, (3 * HEADS, -1)).transpose(1, 2)
        query, key, value = parts.chunk(3, dim=1)
        if past_key_value is not None:
            key, value = past_key_value.update(key, value, self.layer)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + attention_mask
        return self.wo((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class OwnLayer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.attention, self.feed_forward = OwnAttention(layer), nn.Linear(WIDTH, WIDTH)
        self.attention_norm, self.ffn_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def forward(self, hidden_states, attention_mask=None, past_key_value=None):
        attended = self.attention(self.attention_norm(hidden_states), attention_mask, past_key_value)
        residual = hidden_states + attended
        return (residual + F.silu(self.feed_forward(self.ffn_norm(residual))),)


class OwnModel(PreTrainedModel):
    config_class = Qwen2Config

    def __init__(self, config):
        super().__init__(config)
        self.tok_embeddings = nn.Embedding(config.vocab_size, WIDTH)
        self.layers = nn.ModuleList(OwnLayer(number) for number in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH)
        self.post_init()

    def get_input_embeddings(self):
        return self.tok_embeddings

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, past_key_values=None, **kwargs):
        hidden = self.tok_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        length = hidden.shape[1]
        mask = torch.full((1, 1, length, past + length), torch.finfo(hidden.dtype).min).triu(past + 1)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask, past_key_value=past_key_values)[0]
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=past_key_values)


class OwnForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = Qwen2Config

    def __init__(self, config):
        super().__init__(config)
        self.model = OwnModel(config)
        self.output = nn.Linear(WIDTH, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.tok_embeddings

    def get_output_embeddings(self):
        return self.output

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, past_key_values=None, **kwargs):
        found = self.model(input_ids, inputs_embeds, attention_mask, past_key_values)
        return CausalLMOutputWithPast(logits=self.output(found.last_hidden_state), past_key_values=past_key_values)


@pytest.fixture(scope="module")
def own():
    config = Qwen2Config(vocab_size=320, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS)
    model = OwnForCausalLM(config).eval()
    redraw(model, 0)
    return model


@pytest.fixture(scope="module")
def embeds(own):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, len(TYPES), WIDTH, generator=generator)


@torch.no_grad()
def test_its_layers_read_fewer_tokens_and_answers_are_those_of_the_kept_ones(own, embeds):
    """Positions come from the mask alone here, so the kept columns by themselves give the same logits."""
    cache = DynamicCache()
    with ff.reduce(own, ff.DivPrune(keep=0.5), layout=LAYOUT) as reduction:
        found = own(inputs_embeds=embeds, past_key_values=cache).logits[:, -1]
    (columns,) = (decision.columns[decision.plan.keep] for decision in reduction.report.decisions)
    text = [column for column, kind in enumerate(TYPES) if kind < 0]
    kept = sorted([*text, *columns.tolist()])
    assert len(kept) == len(TYPES) - PATCHES * FRAMES // 2
    assert [layer.keys.shape[2] for layer in cache.layers] == [len(kept)] * LAYERS
    alone = own(inputs_embeds=embeds[:, kept]).logits[:, -1]
    torch.testing.assert_close(found, alone)


@torch.no_grad()
@pytest.mark.parametrize(
    "method", [ff.FrameFusion(cost=0.3), ff.FastV(keep=0.5, layer=2)], ids=lambda m: type(m).__name__
)
def test_a_method_that_waits_for_its_attention_is_told(own, embeds, method):
    with ff.reduce(own, method, layout=LAYOUT), pytest.raises(MissingSignalError, match="OwnAttention"):
        own(inputs_embeds=embeds)
