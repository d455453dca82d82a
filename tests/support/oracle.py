"""A second, plain way to run a reduced prompt: the bare layers of a stock model on explicitly gathered tensors.

Nothing here comes from `framefusion.engine`. One row at a time, without padding and without a cache, every layer is
run as two halves from its own submodules, with an explicit four-dimensional mask that is built from prompt columns. The
recorded plans say what happens to the sequence in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PRUNED = -1


@dataclass(frozen=True)
class Act:
    """One plan as the oracle reads it: `columns` (N,) of the row alone, `matrix` (K, N), survivors and owners."""

    layer: int
    place: str
    columns: list[int]
    matrix: Tensor
    keep: list[int]
    owner: list[int]

    @staticmethod
    def of(decision: Any, first_column: int = 0) -> Act:
        """first_column: where the row's real columns begin in the batch the decision was taken in."""
        plan = decision.plan
        return Act(
            decision.point.layer,
            decision.point.place,
            [column - first_column for column in decision.columns.tolist()],
            dense_matrix(plan),
            plan.keep.tolist(),
            plan.owner.tolist(),
        )


def dense_matrix(plan: Any) -> Tensor:
    """(K, N) what a plan does to values, entry by entry."""
    matrix = torch.zeros(len(plan.keep), plan.count)
    for slot, token in enumerate(plan.keep.tolist()):
        matrix[slot, token] = 1.0 if plan.own is None else plan.own[slot]
    if plan.target is not None:
        for slot, token, weight in zip(plan.target.tolist(), plan.source.tolist(), plan.weight.tolist(), strict=True):
            matrix[slot, token] += weight
    return matrix


def acts_of(decisions: Iterable[Any], row: int = 0, first_column: int = 0) -> list[Act]:
    return [Act.of(decision, first_column) for decision in decisions if decision.row == row]


@dataclass
class Living:
    """What is alive: prompt columns (ascending), their states (K, D), DeepStack planes (K, D) each.

    stands: for every prompt column, the living column whose state it shows. size: originals of each living column;
    None where they do not count in attention.
    """

    columns: list[int]
    hidden: Tensor
    planes: list[Tensor]
    stands: list[int]
    size: list[float] | None = None

    def perform(self, act: Act) -> None:
        slot = {column: index for index, column in enumerate(self.columns)}
        acted = [slot[column] for column in act.columns]
        kept = [acted[index] for index in act.keep]
        self.hidden, self.planes[:] = (
            self._mixed(self.hidden, act, acted, kept),
            [self._mixed(plane, act, acted, kept) for plane in self.planes],
        )
        going = set(acted) - set(kept)
        alive = [column for index, column in enumerate(self.columns) if index not in going]
        self.hidden = self.hidden[[index for index in range(len(self.columns)) if index not in going]]
        self.planes = [plane[[i for i in range(len(self.columns)) if i not in going]] for plane in self.planes]
        if self.size is not None:
            taken = {k: sum(self.size[acted[i]] for i, o in enumerate(act.owner) if o == n) for n, k in enumerate(kept)}
            self.size = [taken.get(i, own) for i, own in enumerate(self.size) if i not in going]
        heir = {}
        for index, column in enumerate(act.columns):
            if slot[column] in going:
                owner = act.owner[index]
                earlier = [other for other in alive if other < column] or alive[:1]
                heir[column] = earlier[-1] if owner == PRUNED else act.columns[act.keep[owner]]
        self.stands = [heir.get(column, column) for column in self.stands]
        self.columns = alive

    @staticmethod
    def _mixed(values: Tensor, act: Act, acted: list[int], kept: list[int]) -> Tensor:
        mixed = values.clone()
        mixed[kept] = act.matrix @ values[acted]
        return mixed


@dataclass(frozen=True)
class Answer:
    """What a reduced forward of one row must give.

    columns: living columns after the last layer. stands: (L,) living column that each prompt column shows.
    hidden: (K, D) after the final norm. logits: (K, V). lengths: sequence length that each layer's attention reads.
    mlp_lengths: the same for its MLP. states: (L, D) each, as `output_hidden_states` shows them.
    keys: prompt columns that each layer's attention read.
    """

    columns: list[int]
    stands: list[int]
    hidden: Tensor
    logits: Tensor
    lengths: list[int]
    mlp_lengths: list[int]
    states: list[Tensor]
    keys: list[list[int]]

    def expanded(self, values: Tensor) -> Tensor:
        """(K, ...) of the living columns -> (L, ...) of all of them."""
        return expand(values, self.columns, self.stands)


def expand(values: Tensor, columns: Sequence[int], stands: Sequence[int]) -> Tensor:
    slot = {column: index for index, column in enumerate(columns)}
    return values[[slot[column] for column in stands]]


class Oracle:
    """Runs one row of one stock model. inputs: what the processor returns for that row alone."""

    def __init__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        self.model, self.decoder = model, model.get_decoder()
        self.config = self.decoder.config
        self.inputs = dict(inputs)
        self._capture(self.inputs)

    @torch.no_grad()
    def _capture(self, inputs: Mapping[str, Tensor]) -> None:
        """Let the stock model embed the row, and note what its decoder and every one of its layers is handed."""
        decoder_given: dict[str, Any] = {}
        rotary: list[Any] = []
        hooks = [
            self.decoder.register_forward_pre_hook(
                lambda module, args, kwargs: decoder_given.update(kwargs), with_kwargs=True
            )
        ]
        for layer in self.decoder.layers:
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda module, args, kwargs: rotary.append(kwargs["position_embeddings"]), with_kwargs=True
                )
            )
        try:
            self.model(**inputs, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        self.rotary = rotary
        self.embeds = decoder_given["inputs_embeds"][0]
        self.length = self.embeds.shape[0]
        self.planes = self._planes(decoder_given)
        self.block = self._image_blocks(inputs.get("token_type_ids"))

    def _planes(self, given: Mapping[str, Any]) -> list[Tensor]:
        """DeepStack features spread over all columns."""
        planes = given.get("deepstack_visual_embeds")
        if planes is None:
            return []
        spread = []
        for plane in planes:
            full = torch.zeros_like(self.embeds)
            full[given["visual_pos_masks"][0]] = plane
            spread.append(full)
        return spread

    def _image_blocks(self, token_types: Tensor | None) -> list[int]:
        """Number of the run of image tokens each column is in, PRUNED outside; only Gemma has such blocks."""
        block, number = [PRUNED] * self.length, 0
        if token_types is None:
            return block
        types = token_types[0].tolist()
        for column, kind in enumerate(types):
            if kind == 1:
                number += column == 0 or types[column - 1] != 1
                block[column] = number
        return block

    def extended(self, tokens: Sequence[int]) -> Oracle:
        """The same row with generated tokens appended."""
        inputs = dict(self.inputs)
        more = torch.tensor([list(tokens)], dtype=torch.long)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.zeros_like(more).to(inputs[name].dtype)], 1)
        return Oracle(self.model, inputs)

    @torch.no_grad()
    def run(self, acts: Iterable[Act] = (), weighs: bool = False) -> Answer:
        """The forward pass of the row with `acts` performed where they were recorded.

        weighs: whether a merged token counts in attention as often as it has originals.
        """
        acts = list(acts)
        now = Living(list(range(self.length)), self.embeds, list(self.planes), list(range(self.length)))
        now.size = [1.0] * self.length if weighs else None
        lengths, mlp_lengths, states, keys = [], [], [], []
        for number, layer in enumerate(self.decoder.layers):
            self._perform(acts, number, "before", now)
            states = states or [expand(now.hidden, now.columns, now.stands)]
            lengths.append(len(now.columns))
            keys.append(list(now.columns))
            now.hidden = self._token_mixer_half(number, layer, now)
            self._perform(acts, number, "after_attention", now)
            mlp_lengths.append(len(now.columns))
            now.hidden = _mlp_half(layer, now.hidden)
            states.append(expand(now.hidden, now.columns, now.stands))
            if number < len(now.planes):
                now.hidden = now.hidden + now.planes[number]
        hidden = self.decoder.norm(now.hidden[None])[0]
        states[-1] = expand(hidden, now.columns, now.stands)
        logits = self.model.get_output_embeddings()(hidden)
        return Answer(now.columns, now.stands, hidden, logits, lengths, mlp_lengths, states, keys)

    @staticmethod
    def _perform(acts: Sequence[Act], layer: int, place: str, now: Living) -> None:
        for act in acts:
            if (act.layer, act.place) == (layer, place):
                now.perform(act)

    def _token_mixer_half(self, number: int, layer: nn.Module, now: Living) -> Tensor:
        hidden = layer.input_layernorm(now.hidden[None])
        if hasattr(layer, "linear_attn"):
            mixed = layer.linear_attn(hidden_states=hidden, attention_mask=None)
        else:
            mask = self.mask(number, now.columns, hidden.dtype)
            if now.size is not None:
                mask = mask + torch.tensor(now.size).log()
            mixed, _ = layer.self_attn(
                hidden_states=hidden,
                position_embeddings=_at(self.rotary[number], now.columns),
                attention_mask=mask,
            )
        if hasattr(layer, "pre_feedforward_layernorm"):
            mixed = layer.post_attention_layernorm(mixed)
        return now.hidden + mixed[0]

    def mask(self, number: int, columns: Sequence[int], dtype: torch.dtype) -> Tensor:
        """(1, 1, K, K) additive mask of layer `number` for queries and keys at `columns`."""
        kinds = getattr(self.config, "layer_types", None)
        sliding = kinds is not None and kinds[number] == "sliding_attention"
        column = torch.tensor(columns)
        block = torch.tensor(self.block)[column]
        query, key = column[:, None], column[None, :]
        visible = key <= query
        visible |= (block[:, None] == block[None, :]) & (block[:, None] != PRUNED)
        if sliding:
            visible &= query - key < self.config.sliding_window
        return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)[None, None]


def _mlp_half(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Pre-norm blocks read the residual through one norm; sandwich blocks (Gemma) also norm what the MLP returns."""
    if hasattr(layer, "pre_feedforward_layernorm"):
        return hidden + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(hidden[None])))[0]
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden[None]))[0]


def _at(rotary: Any, columns: Sequence[int]) -> tuple[Tensor, ...]:
    return tuple(table.index_select(-2, torch.tensor(columns)) for table in rotary)
