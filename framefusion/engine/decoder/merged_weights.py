"""How much more the keys of merged tokens weigh in the attention of each layer of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from framefusion.core.errors import AttentionError
from framefusion.engine.sequence.key_index import KeyIndex

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.sequence.state import SequenceState


class MergedWeights:
    """What the layers of one pass take of log(size), and whether they did.

    keys: by layer, the entries that its attention reads.
    """

    def __init__(self, keys: Mapping[int, KeyIndex]) -> None:
        self._keys = keys
        self._taken = -1

    def take(self, layer: int) -> Tensor | None:
        """What `of` returns, for the attention call of `layer`, which is going to add it."""
        self._taken = layer
        return self.of(layer)

    def of(self, layer: int) -> Tensor | None:
        """(B, S) float32 log(size) of the keys of `layer`; None where no key stands for several tokens."""
        keys = self._keys.get(layer)
        return None if keys is None else keys.log_size

    def check(self, layer: int, module: str) -> None:
        """Called when the attention `module` of `layer` has run. Raises AttentionError if nobody took its weight."""
        if self._taken < layer and self.of(layer) is not None:
            raise AttentionError(
                f"the attention of {module} cannot weigh merged tokens",
                "its code computes attention itself, without the attention interface of transformers",
                "leave out `proportional_attention`",
            )


def index_of(state: SequenceState, past: int, weighs: bool) -> KeyIndex:
    """The slots of `state` behind `past` cached columns. weighs: as in `LayerInputs`."""
    size, gate = _sizes(state) if weighs else None, _gates(state)
    if gate is not None:
        size = gate if size is None else size * gate
    return KeyIndex(state.columns + past, state.valid, size)


def _sizes(state: SequenceState) -> Tensor | None:
    """(B, K) float32 originals each slot carries; None where no slot carries more than one."""
    if not state.version:
        return None
    size = torch.ones(state.columns.shape, dtype=torch.float32, device=state.columns.device)
    for number, row in enumerate(state.rows):
        size[number, row.slots.to(size.device)] = row.size.to(size.device)
    return size if bool((size > 1).any()) else None


def _gates(state: SequenceState) -> Tensor | None:
    """(B, K) float32 how much a learned reducer lets each slot count; None where it lets all count in full."""
    gated = [(number, row.slots, row.gate) for number, row in enumerate(state.rows) if row.gate is not None]
    if not gated:
        return None
    gate = torch.ones(state.columns.shape, dtype=torch.float32, device=state.columns.device)
    for number, slots, own in gated:
        slots = slots.to(gate.device)
        gate = gate.index_put((torch.full_like(slots, number), slots), own.to(gate))
    return gate
