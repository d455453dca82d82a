"""VQToken: the clusters of a clip's tokens, each asked by the map of where they were in a frame.

Paper: VQToken (Token Dynamics), https://arxiv.org/abs/2503.16980. The module has the names and sizes of the published
weights; the released inference does not call it, see `vqtoken_base`.

Differs from the published code: a frame's map is brought to the places the module was made for; more frames than
clusters are cut to the clusters (the code repeats the clusters and returns a token for each frame); clusters are those
of `vqtoken_base`, numbered in the order of the tokens that stand for them. `spans` and `codes` are this project's: a
map for each cluster in place of one for each frame, and finer clusters for the attention to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn

from framefusion.core.errors import OptionError
from framefusion.core.layout import frame_numbers
from framefusion.core.learned import LearnedMethod, LearnedStage, Weights, check_heads, on_device
from framefusion.core.method import MethodFacts, Signals, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.kmeans import SLACK, clusters, first_nearest, spread_seeds
from framefusion.core.ops.recent import Recent
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.weighted import group_means
from framefusion.core.options import Count, Interval, Keep, Seed
from framefusion.core.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.core.method import Stage
    from framefusion.core.model_shape import ModelShape

NOBODY = -1.0
"""In the map of a frame, a place whose token an earlier method took out."""

REMEMBERED = 64
"""Clusterings that a training keeps for further questions about the same clips."""


class CodeAttention(nn.Module):
    """Queries from maps of cluster numbers attend to the clusters.

    places: numbers in a map. width: of the clusters, D. heads, feedforward: of each of `depth` decoder layers.
    """

    def __init__(self, places: int, width: int, heads: int = 8, feedforward: int = 2048, depth: int = 1) -> None:
        super().__init__()
        self.places = places
        self.clusterings = Recent(REMEMBERED)
        self.to_q_proj = nn.Linear(places, width)
        layer = nn.TransformerDecoderLayer(width, heads, feedforward, dropout=0.0)
        self.transformer_decoder = nn.TransformerDecoder(layer, depth)

    def forward(self, maps: Tensor, means: Tensor) -> Tensor:
        """maps: (T, places), of each frame the numbers of its clusters. means: (K, D). Returns (K, D) tokens."""
        queries = self.to_q_proj(maps.to(means))
        queries = queries.repeat(-(-len(means) // len(queries)), 1)[: len(means)]
        return self.asked(queries, means)

    def asked(self, queries: Tensor, means: Tensor) -> Tensor:
        """(K, D) what the decoder layers make of queries (K, D) to the clusters (K, D)."""
        tokens: Tensor = self.transformer_decoder(queries[:, None], means[:, None])
        return tokens[:, 0]


Codes = tuple["Tensor", "Tensor"]
"""Maps (C, places) and means (C, D) of finer clusters."""


class DynamicAttention(CodeAttention):
    """Each cluster asks the others, by its mean and a map of when it was where, and adds the answer to its mean.

    It starts as the mean alone. finer: it asks finer clusters instead, which bring their maps along.
    """

    def __init__(
        self, places: int, width: int, heads: int = 8, feedforward: int = 2048, depth: int = 1, finer: bool = False
    ) -> None:
        super().__init__(places, width, heads, feedforward, depth)
        self.gate = nn.Parameter(torch.zeros(width))
        self.to_k_proj = nn.Linear(places, width) if finer else None

    def forward(self, maps: Tensor, means: Tensor, codes: Codes | None = None) -> Tensor:
        """maps: (K, places), of each cluster. means: (K, D). codes: of a finer module. Returns (K, D) tokens."""
        read = means
        if codes is not None:
            assert self.to_k_proj is not None
            read = codes[1].to(means) + self.to_k_proj(codes[0].to(means))
        return means + self.gate * self.asked(means + self.to_q_proj(maps.to(means)), read)


@dataclass(frozen=True)
class VQToken(LearnedMethod):
    """K-means over all tokens of a clip, then attention from where the clusters were.

    Args:
        keep: clusters of each clip, or their fraction of its patches, (0, 1]; fewer where a clip has fewer unlike
            tokens. 1.0 is the identity, and so is a number that a clip does not exceed.
        places: numbers in a frame's map, which the module was made for; 729 as published.
        heads: of the attention; they divide the width of the model.
        feedforward: width of the layer behind it.
        depth: decoder layers, each an attention and the layer behind it; 1 as published.
        spans: 0 makes a map of each frame, as published. A number makes one of each cluster instead, of how much of
            each place it held in each of so many parts of the clip, and the token is the cluster's mean and what the
            attention adds. It stands where the cluster begins, at the first token that is no less like the mean than
            the average one, so that the order of tokens is that of what appears.
        codes: with `spans`, finer clusters that the attention reads instead; 0 for the clusters themselves.
        seed: of the lots that choose the first centres.
        weights: what it has learned, and for which model; None before it was trained or loaded.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> ff.VQToken(places=64).with_budget(16)
        VQToken(keep=16, places=64, heads=8, feedforward=2048, depth=1, spans=0, codes=0, seed=0)
    """

    keep: Keep = 32
    places: Annotated[int, Interval("[1, 65536]")] = 729
    heads: Count = 8
    feedforward: Annotated[int, Interval("[1, 131072]")] = 2048
    depth: Annotated[int, Interval("[1, 64]")] = 1
    spans: Annotated[int, Interval("[0, 1024]")] = 0
    codes: Annotated[int, Interval("[0, 65536]")] = 0
    seed: Seed = 0

    facts = MethodFacts(
        name="vqtoken",
        title="VQToken",
        paper="https://arxiv.org/abs/2503.16980",
        summary="clusters a clip's tokens and asks the clusters, by a trained attention, with the map of each frame",
        stage="before layer 0",
        count="data",
        merges=True,
    )

    def check_options(self) -> None:
        if self.codes and not self.spans:
            raise OptionError(
                f"codes = {self.codes} needs spans",
                "a map of a frame holds the numbers of its clusters",
                "give spans too",
            )
        module = None if self.weights is None else self.weights.module
        if isinstance(module, CodeAttention):
            self.check_made(depth=len(module.transformer_decoder.layers))
        if isinstance(module, DynamicAttention):
            self.check_made(spans=module.places // self.places, places=module.places // max(1, self.spans))
            self.check_made(codes=0 if module.to_k_proj is None else self.codes or "1 or more")
        elif isinstance(module, CodeAttention):
            self.check_made(spans=0, places=module.places)

    def build(self, shape: ModelShape) -> CodeAttention:
        check_heads(self.heads, shape.hidden, "the language model")
        if self.spans:
            places, finer = self.spans * self.places, bool(self.codes)
            return DynamicAttention(places, shape.hidden, self.heads, self.feedforward, self.depth, finer)
        return CodeAttention(self.places, shape.hidden, self.heads, self.feedforward, self.depth)

    def learned_stages(self, weights: Weights) -> tuple[Stage, ...]:
        return (LearnedStage(before(0), partial(self.decide, weights.module), self.uses),)

    def decide(self, module: nn.Module, signals: Signals) -> Plan:
        """The plan for one clip, from its `signals` and the learned `module`."""
        total = len(signals)
        most = kept_count(self.keep, total)
        if most == total:
            return Plan.identity(total, signals.size.device)
        hidden = signals.hidden().detach()
        unit = unit_rows(hidden)
        attention = on_device(module, unit)
        assert isinstance(attention, CodeAttention)
        label = self._clusters(attention, unit, most)
        means = group_means(unit, label, int(label.max()) + 1)
        likeness = (unit * unit_rows(means)[label]).sum(1)
        if self.spans:
            likeness = typical(likeness, label, len(means))
        plan = Plan.merge(first_nearest(likeness, label), signals.size)
        label, order = plan.owner, label[plan.keep]  # numbered in the order of the prompt
        kind = attention.to_q_proj.weight.dtype
        if isinstance(attention, DynamicAttention):
            maps, means = self._described(signals, hidden, label)
            codes = None
            if self.codes:
                codes = self._described(signals, hidden, self._clusters(attention, unit, self.codes))
            return plan.with_learned(values=attention(maps, means.to(kind), codes))
        maps = frame_maps(signals.geometry, label, attention.places)
        return plan.with_learned(values=attention(maps, means[order].to(kind)))

    def _clusters(self, attention: CodeAttention, unit: Tensor, count: int) -> Tensor:
        """(N,) number of the cluster of each of the (N, D) unit rows, of `count` at most, none of them empty."""

        def found(unit: Tensor) -> Tensor:
            return clusters(unit, unit[spread_seeds(unit, count, self.seed)]).unique(return_inverse=True)[1]

        return attention.clusterings.of(unit, (count, self.seed), found) if attention.training else found(unit)

    def _described(self, signals: Signals, hidden: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (K, spans * places) and means (K, D) of the clusters `label` (N,) of `hidden` (N, D)."""
        maps = cluster_maps(signals.geometry, label, self.places, self.spans)
        return maps, group_means(hidden, label, len(maps))


def typical(likeness: Tensor, label: Tensor, count: int) -> Tensor:
    """(N,) 1.0 for tokens no less like the mean of their cluster, `label` (N,) of `count`, than its average token."""
    return (likeness >= group_means(likeness, label, count)[label] - SLACK).to(likeness)


def cluster_maps(geometry: Geometry, label: Tensor, places: int, spans: int) -> Tensor:
    """(K, spans * places) what share of each place the cluster (N,) `label` held in each part of the clip."""
    frames = int(frame_numbers(geometry).max()) + 1
    maps = frame_maps(geometry, label, places)
    count = int(label.max()) + 1
    held = maps[None] == torch.arange(count, device=label.device)[:, None, None]
    part = torch.arange(frames, device=label.device) * spans // frames
    shares = torch.zeros(count, spans, maps.shape[1], device=label.device)
    shares.index_add_(1, part, held.to(shares))
    return (shares / torch.bincount(part, minlength=spans).clamp(min=1)[:, None]).flatten(1)


def frame_maps(geometry: Geometry, label: Tensor, places: int) -> Tensor:
    """(T, places) the labels (N,) of each frame as a map; one of another size is sampled at the nearest places."""
    frame = frame_numbers(geometry)
    gridded = bool((geometry.row >= 0).all())
    row, column = (geometry.row, geometry.column) if gridded else (torch.zeros_like(frame), geometry.patch)
    maps = torch.full((int(frame.max()) + 1, int(row.max()) + 1, int(column.max()) + 1), NOBODY, device=label.device)
    maps[frame, row, column] = label.to(maps)
    if maps[0].numel() == places:
        return maps.flatten(1)
    side = round(places**0.5)
    size = (side, side) if gridded and side * side == places else (1, places)
    if size[0] == 1:
        maps = maps.flatten(1)[:, None]
    return nn.functional.interpolate(maps[:, None], size, mode="nearest-exact").flatten(1)
