"""Run a method's feature stage in front of the projector.

The merged values are written where the survivors are, and the projector still returns one row per placeholder; the
placeholders of the others are dropped at the prompt point by the same plan, whose values are not merged again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import Layout
from framefusion.core.method import IN_FRONT
from framefusion.engine import context
from framefusion.engine.model.calls import first_tensor
from framefusion.engine.vision.signals import Pictures, early_signals

if TYPE_CHECKING:
    from torch import nn

    from framefusion.core.stage import ProjectorStage


class ProjectorHook:
    """The first feature stage of a method, at the projector of one model.

    coming_layout: () -> layout of the prompt that is being encoded, None when it is not known.
    """

    def __init__(self, stage: ProjectorStage, coming_layout: Callable[[], Layout | None]) -> None:
        self.stage = stage
        self.coming_layout = coming_layout

    def before_projector(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple | None:
        """Pre-hook. Acts where the projector is given (pictures, P, C) features, one for each token of each picture."""
        runs, features = context.tower_runs(), first_tensor(args, kwargs)
        if not runs or runs[-1].grouped or features is None or features.ndim != 3:
            return None
        layout = self.coming_layout()
        if layout is None:
            return None
        pictures = Pictures(runs, layout)
        places = pictures.of_kind(runs[-1])
        if len(places) != features.shape[0] or any(group.numel() != features.shape[1] for _, group in places):
            return None
        changed, plans = features.clone(), []
        for number, (row, group) in enumerate(places):
            signals = early_signals(
                "in front of the projector",
                IN_FRONT,
                layout.rows[row][0][group].to(features.device),
                torch.ones(group.numel(), device=features.device),
                features[number].detach,
                vision=partial(pictures.signals_of, runs[-1], number, features.device),
            )
            with torch.no_grad():
                plan = self.stage.decide(signals)
            changed[number, plan.keep] = plan.apply(features[number])
            plans.append(plan)
        runs[-1].acted.append((self.stage, plans))
        if args:
            return (changed, *args[1:]), kwargs
        return args, {name: changed if value is features else value for name, value in kwargs.items()}
