"""LLaVA-Mini: a few learned queries read each picture, and layers of the model's kind put the rest into the text.

Paper: LLaVA-Mini, https://arxiv.org/abs/2501.03895. Modules have the names and sizes of the published weights.

Differs from the published code: tokens of a picture stay at the places of its last patches, so that what follows is as
far away as there, and what comes before is farther; a picture of another grid is compressed as it is; tiles of high
resolution are pictures of their own. `together` and `frames` are this project's: pre-fusion of all frames in one
sequence, and neighbours that share their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn

from framefusion.core.errors import OptionError
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
NEEDS = frozenset({"hidden", "text", "vision", "positions"})
AT_ONCE = 4096
"""Columns that pre-fusion reads at once of pictures that do not see each other."""

Place = tuple[tuple[int, int], "Tensor"]
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
        """patches: (T, n, C) of pictures of `grid` rows and columns. cell: (n,) in it. Returns (T, side * side, C)."""
        values = self.ln_kv(patches)
        queries = self.ln_q(self.query) + self.pos_embed
        keys = values + self.positions(grid)[cell]
        compressed: Tensor = self.attn(queries.expand(len(patches), -1, -1), keys, values, need_weights=False)[0]
        return compressed

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

    @property
    def layers(self) -> nn.ModuleList:
        """Those of pre-fusion."""
        layers = self.prefusion.layers
        assert isinstance(layers, nn.ModuleList)
        return layers

    def compressed(self, patches: Tensor, place: Place) -> Tensor:
        """Tokens (T, q, D) of alike pictures. patches: (T, n, C). place: their grid, and the cell of each patch."""
        few: Tensor = self.mm_projector(self.compressor(patches, *place))
        return few

    def forward(self, patches: Tensor, place: Place, projected: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (T, q, D) of alike pictures, and the text (T, M, D) that has read each.

        patches, place: as in `compressed`. projected: (T, n, D). text: (M, D).
        """
        few = self.compressed(patches, place)
        return self.fused(projected, few, text.expand(len(few), -1, -1))

    def fused(
        self, projected: Tensor, few: Tensor, text: Tensor, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What becomes of `few` (T, q, D) and `text` (T, M, D) behind `projected` (T, n, D).

        positions: (A, n + q + M) of all these columns, as the model has them; None counts them.
        """
        first, behind = projected.shape[1], projected.shape[1] + few.shape[1]
        fused = through(self.prefusion, torch.cat([projected, few, text], 1), positions)
        return fused[:, first:behind], fused[:, behind:]


@dataclass(frozen=True)
class LLaVAMini(LearnedMethod):
    """Every picture, or frame, becomes `side * side` tokens; the text in front of the answer takes in the rest.

    Args:
        side: a picture becomes this number squared, [1, 24]; 1 as published.
        prefusion: decoder layers that fuse, [1, 64]; 4 as published.
        heads: of the compressor; they divide the width of the vision tower.
        together: pre-fusion reads all frames in one sequence, at the positions they have in the model, so that text and
            tokens know what happens along time. As published it reads frame by frame, and the text is averaged.
        frames: neighbouring frames of a clip that become the same `side * side` tokens; above 1 only with `together`.
        weights: what it has learned, and for which model; None before it was trained or loaded.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> ff.LLaVAMini().with_budget(2)
        LLaVAMini(side=2, prefusion=4, heads=8, together=False, frames=1)
    """

    side: Side = 1
    prefusion: Depth = 4
    heads: Count = 8
    together: bool = False
    frames: Count = 1

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

    def check_options(self) -> None:
        if self.frames > 1 and not self.together:
            raise OptionError(
                f"frames = {self.frames} needs together=True",
                "frame by frame, a token that stands for several frames has read one of them",
                "add together=True, or leave out frames",
            )
        module = None if self.weights is None else self.weights.module
        if isinstance(module, CompressAndFuse):
            self.check_made(side=module.compressor.side, prefusion=len(module.layers))

    def build(self, shape: ModelShape) -> CompressAndFuse:
        width = tower_width(self.facts.title, shape)
        if not shape.decoder:
            raise not_for_this_model(self.facts.title, "its decoder is not described")
        check_heads(self.heads, width, "the vision tower")
        layers = decoder_layers(shape.decoder, self.prefusion)
        return CompressAndFuse(self.side, self.heads, width, shape.hidden, layers)

    def learned_stages(self, weights: Weights) -> tuple[Stage, ...]:
        return (LearnedStage(before(0), partial(self.decide, weights.module), self.uses, by_clip=False),)

    def begin(self, module: nn.Module, layers: Sequence[Mapping[str, Tensor]]) -> None:
        """Pre-fusion of `module` begins as copies of the model's first `layers`."""
        assert isinstance(module, CompressAndFuse)
        for layer, own in zip(module.layers, layers, strict=False):
            if layer.state_dict().keys() == own.keys():  # no other parts than those of its class
                layer.load_state_dict(own)

    def decide(self, module: nn.Module, signals: Signals) -> Plan:
        """The plan for all pictures of a row, from its `signals` and the learned `module`."""
        few, device = self.side**2, signals.size.device
        pictures = pictures_of(signals.geometry)
        large = [group for group in pictures if len(group) > few]
        parts = [(group, Plan.identity(len(group), device)) for group in pictures if len(group) <= few]
        if not large:
            return join(len(signals), parts)
        shares = self._shares(signals.geometry, large)
        groups = [torch.cat([large[number] for number in share]) for share in shares]
        merged = [Plan.merge(last_stand(len(group), few, device), signals.size[group]) for group in groups]
        fusing = on_device(module, signals.hidden())
        assert isinstance(fusing, CompressAndFuse)
        if self.together:
            stand = torch.cat([group[plan.keep] for group, plan in zip(groups, merged, strict=True)])
            tokens, words = self._together(fusing, signals, large, shares, stand)
        else:
            tokens, words = self._apart(fusing, signals, large)
        found = zip(groups, merged, tokens, strict=True)
        parts += [(group, plan.with_learned(values=values)) for group, plan, values in found]
        plan = join(len(signals), parts)
        assert plan.learned is not None
        return replace(plan, learned=replace(plan.learned, text=words))

    def _shares(self, geometry: Geometry, pictures: Sequence[Tensor]) -> list[list[int]]:
        """Numbers of the pictures that become the same tokens: neighbours in a clip, `frames` at a time."""
        clips: dict[int, list[int]] = {}
        for number, group in enumerate(pictures):
            clips.setdefault(int(geometry.clip[group[0]]), []).append(number)
        return [own[at : at + self.frames] for own in clips.values() for at in range(0, len(own), self.frames)]

    def _apart(
        self, fusing: CompressAndFuse, signals: Signals, pictures: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Tensor]:
        """Tokens of each picture, and the mean (M, D) of the texts, each of which has read one."""
        features, hidden, text = _seen(fusing, signals)
        tokens, words = [text] * len(pictures), []
        for numbers, place in alike(signals.geometry, pictures):
            for some in torch.tensor(numbers).split(max(1, AT_ONCE // len(pictures[numbers[0]]))):
                index = torch.stack([pictures[number] for number in some.tolist()])
                few, fused = fusing(features[index], place, hidden[index], text)
                for number, values in zip(some.tolist(), few, strict=True):
                    tokens[number] = values
                words.append(fused)
        return tokens, torch.cat(words).mean(0)

    def _together(
        self,
        fusing: CompressAndFuse,
        signals: Signals,
        pictures: Sequence[Tensor],
        shares: Sequence[Sequence[int]],
        stand: Tensor,
    ) -> tuple[Sequence[Tensor], Tensor]:
        """Tokens of each of the `shares`, at the places `stand`, and the text (M, D), which have read all pictures."""
        features, hidden, text = _seen(fusing, signals)
        few = [text] * len(pictures)
        for numbers, place in alike(signals.geometry, pictures):
            index = torch.stack([pictures[number] for number in numbers])
            for number, values in zip(numbers, fusing.compressed(features[index], place), strict=True):
                few[number] = values
        few = [torch.stack([few[number] for number in share]).mean(0) for share in shares]
        whole, own = torch.cat(list(pictures)), signals.positions()
        positions = torch.cat([own[:, whole], own[:, stand], signals.text_positions()], 1)
        tokens, words = fusing.fused(hidden[whole][None], torch.cat(few)[None], text[None], positions)
        return tokens[0].split(self.side**2), words[0]


def _seen(fusing: CompressAndFuse, signals: Signals) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, C), hidden states (N, D) and text (M, D), in the kind of numbers that the module computes with."""
    kind, width = fusing.compressor.query.dtype, fusing.compressor.query.shape[1]
    hidden = signals.hidden()
    features = of_width(signals.vision().features(), width).to(hidden.device, kind)
    return features, hidden.to(kind), signals.text().detach().to(kind)


def alike(geometry: Geometry, pictures: Sequence[Tensor]) -> Iterator[tuple[list[int], Place]]:
    """Numbers of pictures that have the same grid and patches in the same cells of it, with these."""
    found: dict[tuple, tuple[list[int], Place]] = {}
    for number, group in enumerate(pictures):
        grid, cell = cells(geometry[group])
        found.setdefault((grid, *cell.tolist()), ([], (grid, cell)))[0].append(number)
    yield from found.values()


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
