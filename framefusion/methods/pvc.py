"""PVC: each place of a clip looks back at itself in earlier frames, and then its neighbours become one token.

Paper: Progressive Visual Token Compression, https://arxiv.org/abs/2412.09613. Layers and names of the published weights
are in code that comes with its checkpoint alone; this is the mechanism of the paper.

Differs from the published code: the temporal blocks stand behind the vision tower (there: inside its last layers), so
that they fit any model; pictures are not repeated; the projector behind them is the reducer's own. `pooled` is this
project's: a token begins as the mean of those it stands for, so that little has to be learned before it says something.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn

from framefusion.core.layout import cells_of, frame_numbers
from framefusion.core.learned import LearnedMethod, LearnedStage, Weights, check_heads, on_device, tower_width
from framefusion.core.method import MethodFacts, Signals, before
from framefusion.core.ops.features import of_width
from framefusion.core.ops.grid import number_of
from framefusion.core.ops.weighted import group_means
from framefusion.core.options import Count, Interval
from framefusion.core.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Stage
    from framefusion.core.model_shape import ModelShape

SINUSOID, FASTEST, TICKS = 256, 10_000.0, 1000.0
NEEDS = frozenset({"hidden", "vision"})
Shuffle = Annotated[int, Interval("[2, 16]")]


def time_sinusoid(frames: int) -> Tensor:
    """(T, 256) cosines, then sines, of when each of T frames is, relative to the length of the clip."""
    half = SINUSOID // 2
    rate = FASTEST ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = TICKS * torch.arange(frames)[:, None] / frames * rate
    return torch.cat([angle.cos(), angle.sin()], dim=1).float()


class TemporalBlock(nn.Module):
    """Causal attention along time, place by place, in a layer norm that time modulates. It starts as the identity.

    width: C of the features, a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.time = nn.Sequential(nn.Linear(SINUSOID, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.modulation = nn.Linear(width, 3 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, grid: Tensor, there: Tensor) -> Tensor:
        """grid: (T, P, C). there: (T, P) False where a frame has no token at a place. Returns (T, P, C)."""
        frames, places, width = grid.shape
        shift, scale, gate = self.modulation(self.time(time_sinusoid(frames).to(grid)))[:, None].chunk(3, -1)
        inner = self.norm(grid) * (1.0 + scale) + shift
        query, key, value = self.qkv(inner).view(frames, places, 3, self.heads, -1).permute(2, 1, 3, 0, 4)
        order = torch.arange(frames, device=grid.device)
        sees = (order[:, None] >= order) & (there.T[:, None, None, :] | (order[:, None] == order))
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=sees)
        out: Tensor = grid + gate * self.out(seen.permute(2, 0, 1, 3).reshape(frames, places, width))
        return out


class TemporalShuffle(nn.Module):
    """Temporal blocks, pixel shuffle by `shuffle` in each direction, and a projector. vision, hidden: widths C, D.

    pooled: with a gate for each of the D numbers, which begins at zero.
    """

    def __init__(self, blocks: int, heads: int, shuffle: int, vision: int, hidden: int, pooled: bool = False) -> None:
        super().__init__()
        self.shuffle, self.width = shuffle, vision
        self.blocks = nn.ModuleList(TemporalBlock(vision, heads) for _ in range(blocks))
        wide = vision * shuffle**2
        self.projector = nn.Sequential(
            nn.LayerNorm(wide), nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.gate = nn.Parameter(torch.zeros(hidden)) if pooled else None

    def forward(self, grid: Tensor, there: Tensor) -> Tensor:
        """grid: (T, R, S, C). there: (T, R, S) as in the blocks. Returns (T, ceil(R / f), ceil(S / f), D)."""
        flat = grid.flatten(1, 2)
        for block in self.blocks:
            flat = block(flat, there.flatten(1))
        factor, grid = self.shuffle, flat.view_as(grid)
        # What stands over repeats the last row or column.
        for axis in (1, 2):
            line = torch.arange(-(-grid.shape[axis] // factor) * factor, device=grid.device)
            grid = grid.index_select(axis, line.clamp(max=grid.shape[axis] - 1))
        frames, rows, columns, width = grid.shape
        cut = grid.view(frames, rows // factor, factor, columns // factor, factor, width).transpose(2, 3)
        tokens: Tensor = self.projector(cut.reshape(*cut.shape[:3], factor**2 * width))
        return tokens


@dataclass(frozen=True)
class PVC(LearnedMethod):
    """Attention along time in front of a stronger pixel shuffle: a frame has to carry what it adds to earlier ones.

    Args:
        shuffle: rows and columns of a frame that become one token, [2, 16]; 2 leaves a quarter.
        blocks: temporal attention layers, [1, 64].
        heads: of each; they divide the width of the vision tower.
        pooled: False makes the whole token, as published. True adds to the mean of the tokens it stands for, through a
            gate that begins at zero.
        weights: what it has learned, and for which model; None before it was trained or loaded.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> ff.PVC().with_budget(4)
        PVC(shuffle=4, blocks=2, heads=8, pooled=False)
    """

    shuffle: Shuffle = 2
    blocks: Annotated[int, Interval("[1, 64]")] = 2
    heads: Count = 8
    pooled: bool = False

    uses = NEEDS
    facts = MethodFacts(
        name="pvc",
        title="PVC",
        paper="https://arxiv.org/abs/2412.09613",
        summary="each place attends to itself in earlier frames, then neighbours become one token",
        stage="before layer 0",
        budget="shuffle",
        identity={},
        merges=True,
    )

    def check_options(self) -> None:
        module = None if self.weights is None else self.weights.module
        if isinstance(module, TemporalShuffle):
            self.check_made(shuffle=module.shuffle, blocks=len(module.blocks), pooled=module.gate is not None)

    def build(self, shape: ModelShape) -> TemporalShuffle:
        width = tower_width(self.facts.title, shape)
        check_heads(self.heads, width, "the vision tower")
        return TemporalShuffle(self.blocks, self.heads, self.shuffle, width, shape.hidden, self.pooled)

    def learned_stages(self, weights: Weights) -> tuple[Stage, ...]:
        return (LearnedStage(before(0), partial(self.decide, weights.module), self.uses),)

    def decide(self, module: nn.Module, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals` and the learned `module`."""
        hidden = signals.hidden()
        shuffling = on_device(module, hidden)
        assert isinstance(shuffling, TemporalShuffle)
        frame, (row, column) = frame_numbers(signals.geometry), cells_of(signals.geometry)
        sizes = int(frame.max()) + 1, int(row.max()) + 1, int(column.max()) + 1
        features = of_width(signals.vision().features(), shuffling.width)
        features = features.to(next(shuffling.parameters()))
        grid = features.new_zeros(*sizes, features.shape[-1])
        there = torch.zeros(sizes, dtype=torch.bool, device=hidden.device)
        grid[frame, row, column], there[frame, row, column] = features, True
        tokens = shuffling(grid, there)
        row, column = row // self.shuffle, column // self.shuffle
        cell, index = number_of(frame, row, column), torch.arange(len(frame), device=hidden.device)
        first = torch.full_like(index, len(index)).scatter_reduce(0, cell, index, "amin")
        plan = Plan.merge(first[cell], signals.size)
        values = tokens[frame[plan.keep], row[plan.keep], column[plan.keep]]
        if shuffling.gate is not None:
            values = group_means(hidden, plan.owner, plan.kept).to(values) + shuffling.gate * values
        return plan.with_learned(values=values)
