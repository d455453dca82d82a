"""Reading a part of a memory that is kept whole: the latest entries, or those that a question picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.inference.stream.memory import POSITION
from framefusion.inference.stream.packed import plain
from framefusion.inference.stream.rotary import contiguous

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.inference.stream.memory import Memory
    from framefusion.inference.stream.policies.policy import Policy
    from framefusion.inference.stream.rotary import Rotary
    from framefusion.inference.stream.state import State


def latest(memory: Memory, budget: int, device: Any) -> Memory:
    """The protected entries and the last ones of every layer, `budget` in all, on `device`."""
    index = {}
    for number, layer in memory.layers.items():
        every = torch.arange(layer.count)
        stays = (every < memory.protected) | (every >= layer.count - (budget - memory.protected))
        index[number] = every[stays][None]
    return memory.view(index, device)


def chosen(
    state: State, queries: Mapping[int, tuple[Tensor, Tensor]], policy: Policy, budget: int, rotary: Rotary, device: Any
) -> State:
    """What `policy` picks for a question, at positions without gaps where it leaves something out.

    queries: by layer, (H_q, Q, d) of the question, rotated, and their positions (Q, P). budget: recent entries, which
    are read whatever the question, included.
    """
    memory, index = state.memory, {}
    for number, layer in memory.layers.items():
        query = _unrotated(rotary, number, *queries[number]).mean(1)
        recent = layer.since(state.lasting).nonzero().T
        lasting = layer.pick(torch.arange(layer.count - recent.shape[1], device=recent.device)[None])
        entries = lasting.entries(memory.protected)
        entries = replace(entries, keys=_unrotated(rotary, number, entries.keys, lasting.about[0, :, POSITION:]))
        query = query.reshape(entries.keys.shape[0], -1, query.shape[-1]).mean(1)
        picked = policy.select(entries, query, budget - recent.shape[1]).index
        index[number] = torch.cat([picked, recent.expand(len(picked), -1)], 1)
    read = memory.view(index, device)
    if all(layer.count == memory.layers[number].count for number, layer in read.layers.items()):
        return replace(state, memory=read)
    return close_gaps(replace(state, memory=read), rotary)


def close_gaps(state: State, rotary: Rotary, room: int | None = None, apart: int = 0) -> State:
    """The same entries at positions without gaps, and the clock moved with them.

    room, apart: as for `contiguous`, where time has a plane of its own; elsewhere nothing shares a position.
    """
    room = None if state.clock.base is None else room
    given = {number: layer.about[..., POSITION:] for number, layer in state.memory.layers.items()}
    moved, down = contiguous(given, state.memory.protected, state.clock.base, room, apart)
    top = 1 + max(int(positions.max()) for positions in moved.values())
    return replace(state, memory=state.memory.moved(moved, rotary), clock=state.clock.moved_down(down, top))


def moved_back(state: State, budget: int, rotary: Rotary) -> State:
    """Everything at positions without gaps, so low that the latest entries begin where the stream began.

    Earlier ones come to lie below 0, and are moved up again when a question picks them.
    """
    protected, base = state.memory.protected, state.clock.base
    planes = slice(0, 1) if base is not None else slice(None)
    given = {number: layer.about[..., POSITION:] for number, layer in state.memory.layers.items()}
    moved, down = contiguous(given, protected, base)
    seen = [own[:, max(protected, own.shape[1] - budget + protected) :, planes] for own in moved.values()]
    lower = min(int(own.min()) for own in seen) - (protected if base is None else base)
    for own in moved.values():
        own[:, protected:, planes] -= lower
    top = 1 + max(int(positions.max()) for positions in moved.values())
    return replace(state, memory=state.memory.moved(moved, rotary), clock=state.clock.moved_down(down + lower, top))


def _unrotated(rotary: Rotary, number: int, keys: Tensor, positions: Tensor) -> Tensor:
    """Keys or queries (H, n, d) at `positions` (n, P) as they are at position 0."""
    return rotary.move(number, plain(keys), positions[None], torch.zeros_like(positions)[None])
