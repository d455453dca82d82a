"""ATP-LLaVA: after some layers, tokens below thresholds go that a small module reads off the prompt's own scores.

Paper: https://arxiv.org/abs/2412.00447 (CVPR 2025). Numbers follow the paper.

Differs from the published code: there is none. From the paper: the soft mask weighs attention by log(mask) in its
logits, whose softmax is that of the cut in its limits; scores are put on one scale; layers and the target follow the
model and `keep`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn

from framefusion.core.errors import OptionError
from framefusion.core.learned import LearnedMethod, LearnedStage, Planned, Weights, on_device
from framefusion.core.method import MethodFacts, Signals, before
from framefusion.core.options import AttendedLayer, Interval, Share
from framefusion.core.plan import Plan
from framefusion.core.progressive import Steps

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.core.method import Stage
    from framefusion.core.model_shape import ModelShape

PUBLISHED, DEPTH = (4, 14, 24), 32
# Share of the grid by depth, as a fraction of the decoder: more places early, where little is known of the rest.
GRIDS = ((0.3, 0.5), (0.65, 0.25), (1.0, 0.0625))
GRID_WEIGHT = 3.0
LAYER_LOSS, TARGET_LOSS = 0.05, 0.2
FAINTEST = 1e-6


class Thresholds(nn.Module):
    """Of one layer: the thresholds that suit a prompt with these mean scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2, width)
        self.redundant = nn.Linear(width, 1)
        self.spatial = nn.Linear(width, 1)
        for head in (self.redundant, self.spatial):
            nn.init.zeros_(head.weight)  # all thresholds begin at a half, whatever the size of a model's logits
            nn.init.zeros_(head.bias)

    def forward(self, means: Tensor, shift: float = 0.0) -> tuple[Tensor, Tensor]:
        """means: (2,) of the visual and of the textual scores. shift: added in front of both sigmoids."""
        known = self.embed(means)
        return (self.redundant(known)[0] + shift).sigmoid(), (self.spatial(known)[0] + shift).sigmoid()


class Pruner(nn.Module):
    """The thresholds of all layers, and the share of the tokens that they were trained to keep."""

    def __init__(self, layers: int, width: int, keep: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Thresholds(width) for _ in range(layers))
        self.target: Tensor
        self.register_buffer("target", torch.tensor(keep, dtype=torch.float32))


@dataclass(frozen=True)
class ATPLLaVA(LearnedMethod):
    """Prunes by thresholds that were learned for this model and follow each prompt.

    Args:
        keep: share of the patches that stays on average over the layers where it acts, (0, 1]: the target in training.
            Another one than it was trained for moves all thresholds together.
        layers: ascending decoder layers before which it acts; None scales the published (4, 14, 24) of 32 to the model.
        grid: share of each picture's places that its evenly spaced grid holds, (0, 1]; None takes less with depth, as
            published: 0.5, 0.25, 0.0625.
        temperature: how sharp the soft mask of training is, (0, 1000].
        raw: take scores as they are, as published; off, they are put on one scale, as how far each is above the others.
        weights: what it has learned, and for which model; None before it was trained or loaded.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> ff.ATPLLaVA(keep=0.3).with_budget(0.2)
        ATPLLaVA(keep=0.2, layers=None, grid=None, temperature=10.0, raw=False)
    """

    keep: Share = 0.25
    layers: tuple[AttendedLayer, ...] | None = None
    grid: Share | None = None
    temperature: Annotated[float, Interval("(0, 1000]")] = 10.0
    raw: bool = False

    uses = frozenset({"mean_logits"})
    facts = MethodFacts(
        name="atp_llava",
        title="ATP-LLaVA",
        paper="https://arxiv.org/abs/2412.00447",
        summary="prunes after several layers by thresholds that a trained module reads off each prompt's scores",
        stage="before decoder layers 4, 14 and 24 of 32, scaled to the model",
        query_aware=True,
        count="data",
    )

    def check_options(self) -> None:
        steps = self._steps()
        if self.weights is not None and isinstance(self.weights.module, Pruner):
            known, wanted = len(self.weights.module.layers), len(steps.at(self.weights.shape.layers))
            if known != wanted:
                raise OptionError(
                    f"this reducer has thresholds for {known} layers, not for {wanted}", hint="name as many layers"
                )

    def _steps(self) -> Steps:
        return Steps(self.keep, self.layers, PUBLISHED, DEPTH)

    def build(self, shape: ModelShape) -> Pruner:
        return Pruner(len(self._steps().at(shape.layers)), shape.hidden, self.keep)

    def learned_stages(self, weights: Weights) -> tuple[Stage, ...]:
        depth = weights.shape.layers
        return tuple(
            LearnedStage(before(layer), partial(self.decide, weights.module, number, layer / depth), self.uses)
            for number, layer in enumerate(self._steps().at(depth))
        )

    def decide(self, module: nn.Module, number: int, depth: float, signals: Signals) -> Plan:
        """The plan for one clip: in training all tokens with a soft mask, else those above a threshold.

        Args:
            module: the `Pruner` that knows the thresholds; its training mode decides.
            number: of the step.
            depth: of its layer, as a fraction of the decoder.
            signals: of the clip.
        """
        count, pruner = len(signals), on_device(module, signals.size)
        assert isinstance(pruner, Pruner)
        if self.keep == 1.0 and not pruner.training:
            return Plan.identity(count, signals.size.device)
        logits = signals.mean_logits()
        weight = torch.ones_like(logits[0]) if signals.gate is None else signals.gate.detach().to(logits)
        redundant = logits.mean(0) if self.raw else standardised(logits, weight)
        spatial = grid_scores(signals.geometry, self._share(depth))
        shift = torch.logit(pruner.target.double()) - torch.logit(torch.tensor(self.keep, dtype=torch.float64))
        thresholds = pruner.layers[number](mean_of(logits, weight).to(pruner.target), float(shift.nan_to_num(0.0)))
        if pruner.training:
            gate = soft_mask(redundant, spatial, thresholds, self.temperature)
            return Plan.identity(count, signals.size.device).with_learned(gate=gate)
        kept = (redundant > thresholds[0]) | (spatial > thresholds[1])
        kept[redundant.argmax()] |= ~kept.any()
        return Plan.select(kept.nonzero().flatten(), count)

    def _share(self, depth: float) -> float:
        return next(share for end, share in GRIDS if depth < end) if self.grid is None else self.grid

    def loss(self, plans: Sequence[Planned], tokens: Sequence[int]) -> Tensor | None:
        """Both budget terms of the soft masks in `plans`, averaged over rows of so many `tokens`."""
        terms = [budget_loss(row_gates(plans, row), count, self.keep) for row, count in enumerate(tokens) if count]
        return torch.stack(terms).mean() if terms else None


def mean_of(logits: Tensor, weight: Tensor) -> Tensor:
    """(2,) means of both scores (2, N), each token weighed by `weight` (N,)."""
    return (logits * weight).sum(1) / weight.sum()


def standardised(logits: Tensor, weight: Tensor) -> Tensor:
    """(N,) in (0, 1): how far the mean of both scores (2, N), each in units of its own spread, is above the others.

    weight: (N,) what each of the others counts. Tokens that a soft mask lets count little shift nothing, as if gone.
    """
    centred = logits - mean_of(logits, weight)[:, None]
    spread = mean_of(centred.square(), weight).sqrt().clamp(min=FAINTEST)
    return (centred / spread[:, None]).mean(0).sigmoid()


def grid_scores(geometry: Geometry, share: float) -> Tensor:
    """(N,): 1 - 3 share on an evenly spaced grid of about this share of the places of a picture, 0 elsewhere."""
    step = max(1, round(share**-0.5))
    on_grid = (geometry.row % step == 0) & (geometry.column % step == 0)
    return torch.where(on_grid, max(0.0, 1.0 - GRID_WEIGHT * share), 0.0)


def soft_mask(redundant: Tensor, spatial: Tensor, thresholds: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    """(N,) in (0, 1]: how surely a token is above one of its thresholds."""
    above = torch.maximum(redundant - thresholds[0], spatial - thresholds[1])
    return (temperature * above).sigmoid().clamp(min=FAINTEST)


def row_gates(plans: Sequence[Planned], row: int) -> list[tuple[int, Tensor]]:
    """Layer and soft mask of each step in a row; a token counts no more than it did before."""
    found: list[tuple[int, Tensor]] = []
    for planned in plans:
        if planned.row == row and planned.plan.learned is not None and planned.plan.learned.gate is not None:
            gate = planned.plan.learned.gate
            found.append((planned.layer, gate if not found else found[-1][1] * gate))
    return found


def budget_loss(gates: Sequence[tuple[int, Tensor]], tokens: int, keep: float) -> Tensor:
    """0.05 * sum of (kept / tokens) * layer + 0.2 * |mean kept - keep * tokens|, for one row."""
    kept = torch.stack([gate.sum() for _, gate in gates])
    layers = torch.tensor([float(layer) for layer, _ in gates], device=kept.device)
    return LAYER_LOSS * (kept / tokens * layers).sum() + TARGET_LOSS * (kept.mean() - keep * tokens).abs()
