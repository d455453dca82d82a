"""What was seen of one run of the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.tensor_parallel import gathered, sharing_heads
from framefusion.engine.trace import BlockTrace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.method import Stage
    from framefusion.core.plan import Plan
    from framefusion.engine.attention_call import AttentionCall
    from framefusion.engine.vision.encoded import Encoded
    from framefusion.engine.vision.inside import Inside
    from framefusion.engine.vision.tower_blocks import Rows

OBSERVED_LAYERS = 2


@dataclass(frozen=True)
class TowerAttention:
    """Query and key (pictures, H, P, d) of one attention call, detached, of the heads this process has.

    module: that made the call.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    scale: float

    def of_all_heads(self) -> TowerAttention:
        group = sharing_heads(self.module, self.query.shape[1])
        query, key = (gathered(states, 1, group) for states in (self.query, self.key))
        return TowerAttention(self.module, query, key, self.scale)


@dataclass(frozen=True)
class Window:
    """Pictures that the tower works on at a time: from number `first` up to `last`, which is not among them."""

    first: int
    last: int


@dataclass(eq=False)
class TowerRun:
    """One run of the tower.

    grouped: patches that make one token stand next to each other and pictures follow one another in one sequence.
    pictures: patches of each picture, where grouped. class_token: whether the first token of a picture is one.
    inside: whether a stage acts in its blocks.
    per_row: rows repeated for beams brought their pictures along; False where `generate` encoded before it repeated.
    layers: attention calls of its last layers, the last one at the end; a layer may be called once per picture.
    projected: what went into the projector. head: the pooling head and its input, where the tower has one.
    order: token that each group of patches belongs to, None when they are in order. merging: state of a stage that acts
    inside the tower. encoded: what a stage decided from pixels. rows: of the patches its blocks work on, None where
    that is all of them. window: of pictures that the tower works on, None where that is all of them; windowed: whether
    there were any. watched: whether somebody asks for signals. acted: stages that acted inside the tower or in front of
    the projector, with a plan per picture. blocks: what each of its blocks worked on, where a stage decided that.
    """

    grouped: bool = False
    pictures: list[int] = field(default_factory=list)
    class_token: bool = False
    inside: bool = False
    per_row: bool = True
    layers: list[list[TowerAttention]] = field(default_factory=list)
    projected: Tensor | None = None
    head: tuple[Any, Tensor] | None = None
    order: Tensor | None = None
    merging: Inside | None = None
    encoded: Encoded | None = None
    rows: Rows | None = None
    window: Window | None = None
    windowed: bool = False
    watched: bool = True
    acted: list[tuple[Stage, list[Plan]]] = field(default_factory=list)
    blocks: list[BlockTrace] = field(default_factory=list)
    _modules: list[int] = field(default_factory=list)
    _seen: list[tuple] = field(default_factory=list)

    @property
    def partial(self) -> bool:
        """Whether some of its patches are not encoded."""
        return self.encoded is not None and self.encoded.partial

    def plans_of(self, stage: Stage) -> list[Plan] | None:
        """What `stage` decided for each picture before the decoder ran, None if it did not act."""
        return next((plans for acted, plans in self.acted if acted is stage), None)

    def act(self, stage: Stage, plans: list[Plan]) -> None:
        """`stage` decided this for further pictures."""
        before = self.plans_of(stage)
        if before is None:
            self.acted.append((stage, plans))
        else:
            before.extend(plans)

    def worked(self, block: int, read: int, written: int, every: int) -> None:
        """A block worked on further patches: its attention on `read`, its MLP on `written`, of `every` one there is."""
        if block == len(self.blocks):
            self.blocks.append(BlockTrace())
        self.blocks[block] += BlockTrace(read, written, every)

    def begin_window(self, window: Window) -> None:
        """The tower goes on with other pictures."""
        self.windowed = True
        self._seen.append((self.layers, self.projected, self.head))
        self.window, self.layers, self.projected, self.head, self._modules = window, [], None, None, []

    def end_windows(self) -> None:
        """What was seen of all windows, as if the tower had worked on all pictures at once."""
        seen = [*self._seen[1:], (self.layers, self.projected, self.head)]
        self.window, self._seen = None, []
        layers = zip(*(layers for layers, _, _ in seen), strict=True)
        self.layers = [_joined(calls, self.grouped) for calls in layers]
        projected = [part for _, part, _ in seen if part is not None]
        self.projected = torch.cat(projected) if projected else None
        heads = [head for _, _, head in seen if head is not None]
        self.head = (heads[0][0], torch.cat([hidden for _, hidden in heads])) if heads else None

    def saw_attention(self, module: nn.Module, call: AttentionCall) -> None:
        if self.merging is not None:
            self.merging.saw(module, call)
        if not self.watched:
            return
        if not self._modules or self._modules[-1] != id(module):
            self._modules = [*self._modules, id(module)][-OBSERVED_LAYERS:]
            self.layers = [*self.layers, []][-OBSERVED_LAYERS:]
        query, key = call.query.detach(), call.key.detach()
        # Flash kernels take all sequences at once; the others are called once for each.
        lengths = [query.shape[2]] if call.borders is None else call.borders.diff().tolist()
        if self.rows is not None:
            query = self.rows.expand_heads(query, ("seen query", module))
            key = self.rows.expand_heads(key, ("seen key", module))
            lengths = self.rows.lengths(query.shape[2])
        for part in zip(query.split(lengths, 2), key.split(lengths, 2), strict=True):
            self.layers[-1].append(TowerAttention(module, *part, call.scale))


def _joined(windows: Sequence[list[TowerAttention]], grouped: bool) -> list[TowerAttention]:
    """The calls of one layer over all windows; pictures of a batch are in one call."""
    if grouped:
        return [call for window in windows for call in window]
    calls = [window[0] for window in windows]
    query, key = torch.cat([call.query for call in calls]), torch.cat([call.key for call in calls])
    return [TowerAttention(calls[0].module, query, key, calls[0].scale)]
