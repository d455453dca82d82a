"""Run a method's feature stage in front of the projector.

The merged values are written where the survivors are, and the projector still returns one row per placeholder; the
placeholders of the others are dropped at the prompt point by the same plan, whose values are not merged again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import missing_signal
from framefusion.intercept import active
from framefusion.intercept.pictures import Pictures
from framefusion.intercept.tower import first_input
from framefusion.layout import Layout
from framefusion.method import IN_FRONT, Signals

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.intercept.tower import TowerCall
    from framefusion.layout import Geometry
    from framefusion.plan import Plan
    from framefusion.stage import ProjectorStage


class FeatureStage:
    """The first feature stage of a method, at the projector of one model.

    coming_layout: () -> layout of the prompt that is being encoded, None when it is not known.
    """

    def __init__(self, stage: ProjectorStage, coming_layout: Callable[[], Layout | None]) -> None:
        self.stage = stage
        self.coming_layout = coming_layout

    def before_projector(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple | None:
        """Pre-hook. Acts where the projector is given (pictures, P, C) features, one for each token of each picture."""
        calls, features = active.tower_calls(), first_input(args, kwargs)
        if not calls or calls[-1].grouped or features is None or features.ndim != 3:
            return None
        layout = self.coming_layout()
        if layout is None:
            return None
        pictures = Pictures(calls, layout)
        places = pictures.of_kind(calls[-1])
        if len(places) != features.shape[0] or any(group.numel() != features.shape[1] for _, group in places):
            return None
        changed, plans = features.clone(), []
        for number, (row, group) in enumerate(places):
            signals = self._signals(layout.rows[row][0][group], features[number], pictures, calls[-1], number)
            with torch.no_grad():
                plan = self.stage.decide(signals)
            changed[number, plan.keep] = plan.apply(features[number])
            plans.append(plan)
        calls[-1].acted.append((self.stage, plans))
        if args:
            return (changed, *args[1:]), kwargs
        return args, {name: changed if value is features else value for name, value in kwargs.items()}

    def _signals(
        self, geometry: Geometry, features: Tensor, pictures: Pictures, call: TowerCall, number: int
    ) -> Signals:
        missing = missing_signal("in front of the projector")
        return Signals(
            point=IN_FRONT,
            geometry=geometry.to(features.device),
            size=torch.ones(len(geometry), device=features.device),
            hidden=features.detach,
            text=missing,
            asks=missing,
            has_attention=False,
            attention=missing,
            text_attention=missing,
            keys=missing,
            text_keys=missing,
            vision=lambda: pictures.signals_of(call, number, features.device),
        )


def without_values(plan: Plan) -> Plan:
    """The same choice for a stream whose survivors hold their merged values already."""
    return replace(plan, target=None, source=None, weight=None, own=None)
