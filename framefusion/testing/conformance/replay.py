"""A second, plain way to run a reduced prompt: the bare layers of a stock model on explicitly gathered tensors.

Nothing is known about a family here. The stock model runs once and every layer's inputs are noted. Then the layers run
one by one, and of whatever a layer was handed, each dimension as long as the prompt is cut to the columns that are
alive. The prompt's length must therefore occur nowhere else.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.plan import GONE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.plan import Plan
    from framefusion.engine.model.parts import Block
    from framefusion.testing.conformance.toy import Prompt

HIDDEN = "hidden_states"


@dataclass(frozen=True)
class Act:
    """A plan over the tokens at `columns` (N,), before layer `layer` or (`between`) after its attention."""

    layer: int
    between: bool
    columns: Tensor
    plan: Plan


@dataclass(frozen=True)
class Handed:
    """What one layer got in the stock model, and what it returned."""

    args: tuple
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def hidden(self) -> Tensor:
        return self.args[0] if self.args else self.kwargs[HIDDEN]


@dataclass(frozen=True)
class Answer:
    """logits: (1, L, V). keys: columns the attention of each layer reads. lengths: of the sequence in each layer."""

    logits: Tensor
    keys: list[list[int]]
    lengths: list[int]


class Replay:
    """One row of one stock model. Its attention must be "eager", so that every layer gets an explicit mask."""

    def __init__(self, model: nn.Module, blocks: Sequence[Block], given: Prompt) -> None:
        self.model, self.blocks, self.inputs = model, blocks, given.inputs
        self.length = given.inputs["input_ids"].shape[1]
        self.layout = given.layout
        self.handed: list[Handed] = []
        handles = [block.layer.register_forward_hook(self._note, with_kwargs=True) for block in blocks]
        with torch.no_grad():
            self.logits = model(**self.inputs, use_cache=False).logits
        for handle in handles:
            handle.remove()

    def _note(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        self.handed.append(Handed(args, kwargs, _first(output)))

    @torch.no_grad()
    def run(self, acts: Sequence[Act], whole: Sequence[int] = ()) -> Answer:
        """whole: layers whose acts between attention and MLP are due after the MLP instead."""
        alive, stands = list(range(self.length)), list(range(self.length))
        hidden = self.handed[0].hidden
        keys: list[list[int]] = []
        lengths: list[int] = []
        shared: dict[int, Any] = {}
        for number, (block, handed) in enumerate(zip(self.blocks, self.handed, strict=True)):
            if number:
                # What the model's loop adds between two layers.
                hidden = hidden + self._alive(handed.hidden - self.handed[number - 1].output, alive)
            for act in _at(acts, number, between=False):
                hidden = _mixed(hidden, act, alive)
                alive, stands, hidden = _cut(act, alive, stands, hidden)
            source = self._key_source(number)
            keys.append(list(alive) if source is None else keys[source])
            now = list(alive)
            lengths.append(len(alive))
            later = list(_at(acts, number, between=True))
            hidden = self._run_layer(block, handed, hidden, now, keys[-1], [] if number in whole else later, shared)
            for act in later:
                if number in whole:
                    hidden = _mixed(hidden, act, alive)
                alive, stands, hidden = _cut(act, alive, stands, hidden)
        return Answer(self._finish(hidden, alive, stands), keys, lengths)

    def _key_source(self, number: int) -> int | None:
        """The earlier layer whose keys this one reads, None where it makes its own."""
        attentions: list[Any] = [block.attention for block in self.blocks]
        if not getattr(attentions[number], "is_kv_shared_layer", False):
            return None
        kind = attentions[number].layer_type
        makers = [n for n, other in enumerate(attentions[:number]) if not other.is_kv_shared_layer]
        return max(n for n in makers if attentions[n].layer_type == kind)

    def _run_layer(
        self,
        block: Block,
        handed: Handed,
        hidden: Tensor,
        alive: list[int],
        keys: list[int],
        later: list[Act],
        shared: dict[int, Any],
    ) -> Tensor:
        args = tuple(self._given(value, alive, keys, shared) for value in handed.args[1:])
        kwargs = {
            name: self._given(value, alive, keys, shared) for name, value in handed.kwargs.items() if name != HIDDEN
        }

        now = list(alive)

        def mix(module: nn.Module, given: tuple) -> None:
            for act in later:
                given[0].copy_(_mixed(given[0], act, now))

        handle = block.mlp_norm.register_forward_pre_hook(mix) if later and block.mlp_norm is not None else None
        output = _first(block.layer(hidden, *args, **kwargs))
        if handle is not None:
            handle.remove()
        return output

    def _given(self, value: Any, alive: list[int], keys: list[int], shared: dict[int, Any]) -> Any:
        if isinstance(value, torch.Tensor):
            mask = value.ndim == 4 and value.shape[-1] == value.shape[-2] == self.length
            return self._alive(value, alive, keys if mask else alive)
        if isinstance(value, (tuple, list)):
            return type(value)(self._given(part, alive, keys, shared) for part in value)
        if isinstance(value, UserDict):  # keys that layers share, filled as they run
            return shared.setdefault(id(value), type(value)())
        if isinstance(value, Mapping):
            return {name: self._given(part, alive, keys, shared) for name, part in value.items()}
        return value

    def _alive(self, value: Tensor, alive: list[int], last: list[int] | None = None) -> Tensor:
        for dim, size in enumerate(value.shape):
            if size == self.length:
                columns = last if last is not None and dim == value.ndim - 1 else alive
                value = value.index_select(dim, torch.tensor(columns))
        return value

    def _finish(self, hidden: Tensor, alive: list[int], stands: list[int]) -> Tensor:
        """Let the stock model finish from the last layer's states, each prompt column showing the one it stands for."""
        slot = {column: index for index, column in enumerate(alive)}
        dim = _token_dim(hidden, len(alive))
        whole = hidden.index_select(dim, torch.tensor([slot[column] for column in stands]))

        def replace(module: nn.Module, args: tuple, output: Any) -> Any:
            return (whole, *output[1:]) if isinstance(output, tuple) else whole

        handle = self.blocks[-1].layer.register_forward_hook(replace)
        try:
            return self.model(**self.inputs, use_cache=False).logits
        finally:
            handle.remove()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _at(acts: Sequence[Act], layer: int, between: bool) -> list[Act]:
    return [act for act in acts if (act.layer, act.between) == (layer, between)]


def _token_dim(hidden: Tensor, count: int) -> int:
    return next(dim for dim in range(1, hidden.ndim) if hidden.shape[dim] == count)


def _mixed(hidden: Tensor, act: Act, alive: list[int]) -> Tensor:
    """The survivors' new values at their old places; nothing is cut yet."""
    slot = {column: index for index, column in enumerate(alive)}
    places = [slot[int(column)] for column in act.columns]
    dim = _token_dim(hidden, len(alive))
    old = hidden.movedim(dim, 0)
    new, plan = old.clone(), act.plan
    if plan.target is not None and plan.source is not None and plan.weight is not None and plan.own is not None:
        for survivor in set(plan.target.tolist()):
            place = places[int(plan.keep[survivor])]
            new[place] = old[place] * plan.own[survivor]
        for survivor, source, weight in zip(plan.target.tolist(), plan.source.tolist(), plan.weight, strict=True):
            new[places[int(plan.keep[survivor])]] += weight * old[places[source]]
    return new.movedim(0, dim)


def _cut(act: Act, alive: list[int], stands: list[int], hidden: Tensor) -> tuple[list[int], list[int], Tensor]:
    columns, kept = act.columns.tolist(), set(act.columns[act.plan.keep].tolist())
    left = [column for column in alive if column not in columns or column in kept]
    heir = {}
    for column, owner in zip(columns, act.plan.owner.tolist(), strict=True):
        if column not in kept:
            earlier = [other for other in left if other < column]
            heir[column] = earlier[-1] if owner == GONE else columns[int(act.plan.keep[owner])]
    places = [index for index, column in enumerate(alive) if column in left]
    dim = _token_dim(hidden, len(alive))
    return left, [heir.get(column, column) for column in stands], hidden.index_select(dim, torch.tensor(places))
