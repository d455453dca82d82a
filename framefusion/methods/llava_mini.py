"""LLaVA-Mini: a few learned queries read each picture, and layers of the model's kind put the rest into the text.

Paper: LLaVA-Mini, https://arxiv.org/abs/2501.03895. Modules have the names and sizes of the published weights.

Differs from the published code: tokens of a picture stay at the places of its last patches, so that what follows is as
far away as there, and what comes before is farther; a picture of another grid is compressed as it is; tiles of high
resolution are pictures of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn

from framefusion.core.learned import (
    LearnedMethod,
    LearnedStage,
    Weights,
    check_heads,
    not_for_this_model,
    on_device,
    tower_width,
)
from framefusion.core.method import MethodFacts, Signals, before
from framefusion.core.ops.features import of_width
from framefusion.core.options import Count, Interval
from framefusion.core.plan import Plan
from framefusion.core.stage import join, pictures_of
from framefusion.models.decoder_layers import decoder_layers, through

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.core.method import Stage
    from framefusion.core.model_shape import ModelShape

SMALLEST, FASTEST = 0.02, 10_000.0
NEEDS = frozenset({"hidden", "text", "vision"})
Side = Annotated[int, Interval("[1, 24]")]
Depth = Annotated[int, Interval("[1, 64]")]


def sine_cosine(side: int, width: int) -> Tensor:
    """(side * side, width) positions of a square grid: half of the width tells the column, the other half the row."""
    quarter = width // 4
    rate = FASTEST ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * rate for place in (column, row)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


class QueryCompressor(nn.Module):
    """side * side queries attend to the patches of a picture. width: of the patches, a multiple of 4 and of `heads`."""

    pos_embed: Tensor

    def __init__(self, side: int, width: int, heads: int = 8) -> None:
        super().__init__()
        self.side = side
        self.query = nn.Parameter(torch.empty(side * side, width).normal_(0.0, SMALLEST))
        self.register_buffer("pos_embed", sine_cosine(side, width))
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_q, self.ln_kv = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, patches: Tensor, grid: tuple[int, int], cell: Tensor) -> Tensor:
        """patches: (n, C) of a picture of `grid` rows and columns. cell: (n,) in it. Returns (side * side, C)."""
        values = self.ln_kv(patches)
        queries = self.ln_q(self.query) + self.pos_embed
        keys = values + self.positions(grid)[cell]
        compressed: Tensor = self.attn(queries[None], keys[None], values[None], need_weights=False)[0]
        return compressed[0]

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """(rows * columns, C) the queries' own positions, bicubically resized to `grid`."""
        own = self.pos_embed
        if grid == (self.side, self.side):
            return own
        square = own.float().view(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        wide = nn.functional.interpolate(square, grid, mode="bicubic", align_corners=False)
        return wide.permute(0, 2, 3, 1).flatten(0, 2).to(own)


class CompressAndFuse(nn.Module):
    """The compressor, a projector into the language model, and pre-fusion layers. vision, hidden: widths C and D."""

    def __init__(self, side: int, heads: int, vision: int, hidden: int, layers: nn.Module) -> None:
        super().__init__()
        self.compressor = QueryCompressor(side, vision, heads)
        self.mm_projector = nn.Sequential(nn.Linear(vision, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.prefusion = layers

    def forward(
        self, patches: Tensor, place: tuple[tuple[int, int], Tensor], projected: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens (q, D) of one picture, and the text (M, D) that has read it.

        patches: (n, C). place: rows and columns of the picture, and the cell of each patch. projected: (n, D). text:
        (M, D).
        """
        few = self.mm_projector(self.compressor(patches, *place))
        fused = through(self.prefusion, torch.cat([projected, few, text]))[len(projected) :]
        return fused[: len(few)], fused[len(few) :]


@dataclass(frozen=True)
class LLaVAMini(LearnedMethod):
    """Every picture, or frame, becomes `side * side` tokens; the text in front of the answer takes in the rest.

    Args:
        side: a picture becomes this number squared, [1, 24]; 1 as published.
        prefusion: decoder layers that fuse, [1, 64]; 4 as published.
        heads: of the compressor; they divide the width of the vision tower.
        weights: what it has learned, and for which model; None before it was trained or loaded.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> ff.LLaVAMini().with_budget(2)
        LLaVAMini(side=2, prefusion=4, heads=8)
    """

    side: Side = 1
    prefusion: Depth = 4
    heads: Count = 8

    uses = NEEDS
    of_layers = True
    facts = MethodFacts(
        name="llava_mini",
        title="LLaVA-Mini",
        paper="https://arxiv.org/abs/2501.03895",
        summary="learned queries read each picture; trained layers put the rest of it into the text",
        stage="before layer 0",
        query_aware=True,
        budget="side",
        identity={},
        merges=True,
    )

    def build(self, shape: ModelShape) -> CompressAndFuse:
        width = tower_width(self.facts.title, shape)
        if not shape.decoder:
            raise not_for_this_model(self.facts.title, "its decoder is not described")
        check_heads(self.heads, width, "the vision tower")
        layers = decoder_layers(shape.decoder, self.prefusion)
        return CompressAndFuse(self.side, self.heads, width, shape.hidden, layers)

    def learned_stages(self, weights: Weights) -> tuple[Stage, ...]:
        return (LearnedStage(before(0), partial(self.decide, weights.module), self.uses, by_clip=False),)

    def decide(self, module: nn.Module, signals: Signals) -> Plan:
        """The plan for all pictures of a row, from its `signals` and the learned `module`."""
        hidden, text, few = signals.hidden(), signals.text(), self.side**2
        fusing = on_device(module, hidden)
        assert isinstance(fusing, CompressAndFuse)
        kind, width = fusing.compressor.query.dtype, fusing.compressor.query.shape[1]
        features = of_width(signals.vision().features(), width).to(hidden.device, kind)
        parts, words = [], []
        for group in pictures_of(signals.geometry):
            plan = Plan.identity(len(group), hidden.device)
            if len(group) > few:
                place = cells(signals.geometry[group])
                tokens, fused = fusing(features[group], place, hidden[group].to(kind), text.detach().to(kind))
                plan = Plan.merge(last_stand(len(group), few, hidden.device), signals.size[group])
                plan = plan.with_learned(values=tokens)
                words.append(fused)
            parts.append((group, plan))
        plan = join(len(signals), parts)
        if plan.learned is None:
            return plan
        return replace(plan, learned=replace(plan.learned, text=torch.stack(words).mean(0)))


def cells(geometry: Geometry) -> tuple[tuple[int, int], Tensor]:
    """Rows and columns of a picture, and (n,) the cell of each patch, counted by rows; without cells it is one row."""
    if not bool((geometry.row >= 0).all()):
        return (1, int(geometry.patch.max()) + 1), geometry.patch
    row, column = geometry.row - geometry.row.min(), geometry.column - geometry.column.min()
    columns = int(column.max()) + 1
    return (int(row.max()) + 1, columns), row * columns + column


def last_stand(count: int, few: int, device: torch.device) -> Tensor:
    """(count,) the token that stands for each: one of the `few` last ones, which share out the others in order."""
    token = torch.arange(count, device=device)
    first = count - few
    return torch.where(token < first, first + token * few // first, token)
