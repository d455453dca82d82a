"""The limit: the stock layers of the same model on the tokens that survive, as if deciding had cost nothing.

Which tokens survive where is known beforehand. Nothing here comes from `framefusion.engine`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


@dataclass(frozen=True)
class Cut:
    """slots: (K,) that live on. after_attention: whether it acts between attention and MLP of `layer`, or before it."""

    layer: int
    after_attention: bool
    slots: Tensor


def cuts_of(decisions: Iterable[Any], length: int) -> list[Cut]:
    """Cuts of a prompt of one row and `length` columns, from the decisions of a reduction's report."""
    alive, cuts = torch.arange(length), []
    for decision in decisions:
        columns = decision.columns.cpu()
        gone = torch.ones(columns.numel(), dtype=torch.bool)
        gone[decision.plan.keep.cpu()] = False
        if not bool(gone.any()):
            continue
        slots = (~torch.isin(alive, columns[gone])).nonzero().flatten()
        cuts.append(Cut(max(0, decision.point.layer), decision.point.place == "after_attention", slots))
        alive = alive[slots]
    return cuts


class Oracle:
    """One prompt of one row. embeds: (1, L, D). positions: (3, 1, L)."""

    def __init__(self, model: Any, embeds: Tensor, positions: Tensor, cuts: Iterable[Cut]) -> None:
        self.model, self.decoder = model, model.get_decoder()
        self.length = embeds.shape[1]
        # transformers 5.24 renamed the cache.
        names = inspect.signature(type(self.decoder.layers[0].self_attn).forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._cuts: dict[tuple[int, bool], list[Tensor]] = {}
        for cut in cuts:
            slots = cut.slots.to(embeds.device)
            if (cut.layer, cut.after_attention) == (0, False):
                embeds, positions = embeds.index_select(1, slots), positions.index_select(2, slots)
            else:
                self._cuts.setdefault((cut.layer, cut.after_attention), []).append(slots)
        self.embeds, self.positions = embeds, positions

    @torch.no_grad()
    def prefill(self) -> tuple[Tensor, DynamicCache]:
        """Logits of the last position (1, 1, V) and the cache, each layer at its own length."""
        cache = DynamicCache()
        hidden = self.embeds
        rotary = self.decoder.rotary_emb(hidden, self.positions)
        for number, layer in enumerate(self.decoder.layers):
            for slots in self._cuts.get((number, False), ()):
                hidden, rotary = hidden.index_select(1, slots), _rows(rotary, slots)
            later = self._cuts.get((number, True))
            if later is None:
                hidden = _first(layer(hidden, position_embeddings=rotary, **self._cached(cache)))
                continue
            mixed = layer.self_attn(
                hidden_states=layer.input_layernorm(hidden),
                position_embeddings=rotary,
                attention_mask=None,
                **{self._cache_name: cache},
            )
            hidden = hidden + _first(mixed)
            for slots in later:
                hidden, rotary = hidden.index_select(1, slots), _rows(rotary, slots)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self._logits(hidden), cache

    @torch.no_grad()
    def decode(self, token: Tensor, column: int, cache: DynamicCache) -> Tensor:
        """Logits (1, 1, V) after one more token (1, 1) at prompt column `column`."""
        hidden = self.decoder.embed_tokens(token)
        positions = torch.full((3, 1, 1), column, device=token.device)
        rotary = self.decoder.rotary_emb(hidden, positions)
        for layer in self.decoder.layers:
            hidden = _first(layer(hidden, position_embeddings=rotary, **self._cached(cache)))
        return self._logits(hidden)

    def _cached(self, cache: DynamicCache) -> dict[str, Any]:
        return {self._cache_name: cache, "use_cache": True}

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(self.decoder.norm(hidden)[:, -1:])


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _rows(rotary: tuple[Tensor, Tensor], slots: Tensor) -> tuple[Tensor, Tensor]:
    cosine, sine = rotary
    return cosine.index_select(-2, slots), sine.index_select(-2, slots)
