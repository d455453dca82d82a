"""Keys moved to other positions: rotated once, by the model's own tables of where they were and where they go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.model.parts import ModelParts

APPLY = "apply_rotary_pos_emb"
CHANGING = ("dynamic", "longrope")


class Rotary:
    """The rotary embedding of one decoder. planes: of its positions."""

    def __init__(self, parts: ModelParts, planes: int) -> None:
        self._planes = planes
        self._module: Any = getattr(parts.decoder, "rotary_emb", None)
        self._apply = next((found for found in map(_apply_of, parts.blocks) if found is not None), None)
        self._dtype = parts.model.dtype
        self._layers = [getattr(block.attention, "use_rope", True) for block in parts.blocks]
        self.limit = _limit(parts.decoder_config)

    @property
    def reason(self) -> str | None:
        """Why keys of this model cannot be moved, None where they can."""
        if self._module is None or self._apply is None:
            return "it has no rotary embedding of the usual form"
        if getattr(self._module, "rope_type", "default") in CHANGING:
            return "its rotary frequencies change with the length of the prompt"
        return None

    def move(self, layer: int, keys: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Keys (H, S, d) of decoder layer `layer` at positions `before` (h, S, P), as they are at `after` (h, S, P).

        The tables are those that rotated the keys, so nothing is lost but what the type of the keys rounds off: at most
        two of its steps for each number, relative to the length of the key.
        """
        if self.reason is not None:
            raise UnsupportedModelError(
                "the positions of this stream cannot be made contiguous",
                self.reason,
                "give the stream less memory, or begin a new one before the model's limit is near",
            )
        if not self._layers[layer]:
            return keys
        heads = before.shape[0]
        folded = keys.reshape(heads, -1, *keys.shape[1:]).double()
        cosine, sine = self._tables(before, keys.device)
        there_cosine, there_sine = self._tables(after, keys.device)
        # What the first rotation scaled by, too, is taken off: its inverse divides by the length of its tables.
        scale = cosine * cosine + sine * sine
        turn = (there_cosine * cosine + there_sine * sine) / scale
        slope = (there_sine * cosine - there_cosine * sine) / scale
        assert self._apply is not None
        return self._apply(folded, folded, turn, slope)[1].reshape(keys.shape).to(keys.dtype)

    def _tables(self, positions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        planes = positions.long().movedim(-1, 0).to(device)
        like = torch.empty(0, dtype=self._dtype, device=device)
        cosine, sine = self._module(like, planes if self._planes > 1 else planes[0])
        return cosine.double(), sine.double()


def contiguous(
    positions: Mapping[int, Tensor], protected: int, free: int | None, room: int | None = None, apart: int = 0
) -> tuple[dict[int, Tensor], int]:
    """Positions without gaps, in the same order.

    positions: by layer, (h, S, P) of each entry. protected: entries in front that stay where they are. free: first
    position that frames of one clip share in every plane but that of time, which alone is moved then; None where all
    planes move together. room: positions they may take, None for any number. Where a head holds more, the latest
    `apart` keep one for each, and the earlier share what is left, evenly. Returns them and by how much what comes next
    moves down. Entries of heads or layers that hold fewer positions lie next to what comes.
    """
    planes = slice(0, 1) if free is not None else slice(None)
    ranks, longest = {}, 0
    for layer, given in positions.items():
        moved = [_shared(*_ranked(own[protected:, planes]), room, apart) for own in given]
        ranks[layer] = moved
        longest = max([longest, *(count for _, count in moved)])
    last = max(int(given[:, protected:, planes].max()) for given in positions.values())
    first = protected if free is None else free
    result = {}
    for layer, given in positions.items():
        after = given.clone()
        for head, (rank, count) in enumerate(ranks[layer]):
            after[head, protected:, planes] = (rank + first + longest - count).to(after.dtype)
        result[layer] = after
    return result, last - (first + longest - 1)


def _ranked(values: Tensor) -> tuple[Tensor, int]:
    """Of each value its number among all different ones, and how many these are."""
    different, rank = values.unique(return_inverse=True)
    return rank, different.numel()


def _shared(rank: Tensor, count: int, room: int | None, apart: int) -> tuple[Tensor, int]:
    """Numbers below `room`, the last `apart` of `count` one for each, and how many there are."""
    if room is None or count <= room:
        return rank, count
    earlier, left = count - apart, room - apart
    return torch.where(rank < earlier, rank * left // earlier, rank - earlier + left), room


def _apply_of(block: Any) -> Callable[..., Any] | None:
    for cls in type(block.attention).__mro__ if block.attention is not None else ():
        found = getattr(sys.modules.get(cls.__module__), APPLY, None)
        if found is not None:
            return getattr(found, "func", found)
    return None


def _limit(config: Any) -> int | None:
    limit = getattr(config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None
