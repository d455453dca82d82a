"""A family nobody has heard of works through the generic path, and one that needs a rule needs one small file."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import nn
from transformers import GenerationMixin, LlamaConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaModel

import framefusion as ff
from framefusion import models
from framefusion.core.layout import NEWLINE
from framefusion.core.registry import families, family_of
from framefusion.testing.conformance.contract import check
from framefusion.testing.conformance.toy import toy_of

WIDTH, SIDE = 32, 3


class QuiltConfig(PreTrainedConfig):
    model_type = "quilt"
    sub_configs = MappingProxyType({"text_config": LlamaConfig})

    def __init__(self, text_config=None, image_token_id=100, **others):
        if not isinstance(text_config, LlamaConfig):
            text_config = LlamaConfig(**(text_config or {}))
        self.text_config, self.image_token_id = text_config, image_token_id
        super().__init__(**others)


class QuiltForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Patches by one convolution, scattered into the embeddings of a text decoder."""

    config_class = QuiltConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.language_model = LlamaModel(config.text_config)
        self.lm_head = nn.Linear(WIDTH, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.embed_tokens

    def get_decoder(self):
        return self.language_model

    def get_image_features(self, pixel_values):
        return self.patches(pixel_values).flatten(2).transpose(1, 2)

    def forward(self, input_ids=None, pixel_values=None, inputs_embeds=None, attention_mask=None, **others):
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        if pixel_values is not None:
            pictures = self.get_image_features(pixel_values).flatten(0, 1)
            embeds = embeds.masked_scatter((input_ids == self.config.image_token_id)[..., None], pictures)
        others.pop("logits_to_keep", None)
        out = self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, **others)
        return CausalLMOutputWithPast(logits=self.lm_head(out[0]), past_key_values=out.past_key_values)


def quilt() -> QuiltForConditionalGeneration:
    text = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = QuiltConfig({**text, "num_key_value_heads": 2, "vocab_size": 160, "head_dim": 8})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = QuiltForConditionalGeneration._from_config(config, attn_implementation="eager")
        for weight in model.parameters():
            weight.data.normal_(0.0, 0.15)
    return model.eval()


def test_an_unnamed_family_keeps_the_contract_at_every_point() -> None:
    assert "quilt" not in families
    toy = toy_of(quilt())
    assert toy.pixels is not None
    assert check(toy) == ("prompt", "before a layer", "between attention and MLP")


FILE = '''
"""Quilt: a square of patches, each row closed by a newline."""

from framefusion.core.layout import Geometry
from framefusion.models.family import Family
from framefusion.models.placeholders import image_token
from framefusion.models.layout_rules import lay_templates, run_lengths


def layout(config, inputs, ids):
    token = image_token(config)
    sides = (round((4 * length + 1) ** 0.5) // 2 for length in run_lengths(ids, token))
    return lay_templates(ids, [(token, (Geometry.grid(1, side, side, row_newline=True) for side in sides))])


QUILT = Family("quilt", layout)
'''


@pytest.fixture
def one_more_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "quilt.py").write_text(FILE)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    families.forget()
    yield
    families.forget()


@pytest.mark.usefixtures("one_more_file")
def test_a_rule_is_one_file_and_no_edit_elsewhere() -> None:
    assert len(FILE.splitlines()) <= 60
    assert "quilt" in families and family_of("quilt").name == "quilt"
    model = quilt()
    ids = torch.tensor([[5, *[100] * SIDE * (SIDE + 1), 6, 7]])
    with ff.reduce(model, ff.FastV(keep=0.5, layer=1)) as reduction, torch.no_grad():
        model(input_ids=ids)
    ((geometry, placement),) = reduction.report.layout.rows
    assert placement.columns.tolist() == list(range(1, 13))
    assert geometry.kind.eq(NEWLINE).nonzero().flatten().tolist() == [3, 7, 11]
