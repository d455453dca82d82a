"""Decoder layers of a model's own kind, without the model: built by transformers from a text configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor, nn


def described(config: Any) -> str:
    """A text configuration of transformers as JSON that `decoder_layers` reads."""
    return json.dumps({**config.to_diff_dict(), "model_type": config.model_type}, sort_keys=True)


def decoder_layers(described: str, count: int) -> nn.Module:
    """`count` new decoder layers, as a text model of transformers without embedding and last norm.

    described: what `described` returned. Raises OptionError where transformers makes no text model of it.
    """
    from torch import nn
    from transformers import AutoConfig, AutoModel

    try:
        settings = json.loads(described)
        kind = settings.pop("model_type")
        # One word: the layers are given embeddings.
        sizes = settings | {"num_hidden_layers": count, "vocab_size": 1, "pad_token_id": None, "use_cache": False}
        kinds = settings.get("layer_types")
        if isinstance(kinds, list):
            sizes["layer_types"] = kinds[:count]
        model = AutoModel.from_config(AutoConfig.for_model(kind, **sizes))
        model.embed_tokens, model.norm = nn.Identity(), nn.Identity()
        if len(model.layers) != count:
            raise ValueError(f"{type(model).__name__} has {len(model.layers)} layers, not {count}")
    except Exception as error:  # settings may be a stranger's
        raise OptionError(
            "no decoder layers can be made of this model's configuration",
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            "pre-fusion needs a text model that transformers builds from its configuration",
        ) from error
    return model


def through(layers: nn.Module, states: Tensor, positions: Tensor | None = None) -> Tensor:
    """States (B, n, D) that passed `layers`, causally.

    positions: (A, n) of every column along A axes, where the model has as many; None counts from 0 to n - 1.
    """
    import torch

    given = {}
    if positions is not None:
        axes = positions if len(positions) == 1 else positions[:, None]
        # With a mask, positions that jump back are not taken for the beginnings of packed sequences.
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
        given = {"position_ids": axes.expand(*axes.shape[:-2], *states.shape[:2]), "attention_mask": mask}
    out: Tensor = layers(inputs_embeds=states, use_cache=False, **given).last_hidden_state
    return out


def with_tables(module: nn.Module) -> nn.Module:
    """`module`, which was built on the meta device and given its weights, with its rotary tables computed."""
    for part in module.modules():
        tables = getattr(part, "rotary_emb", None)
        if tables is not None:
            part.rotary_emb = type(tables)(config=tables.config)
    return module
