"""Signals made by hand, to drive a method's stage without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.method import Point, Setting, Signals, no_attention

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.core.method import Method, VisionSignals
    from framefusion.core.plan import Plan


def make_signals(
    geometry: Geometry,
    hidden: Tensor,
    point: Point,
    *,
    text: Tensor | None = None,
    attention: Tensor | None = None,
    text_attention: Tensor | None = None,
    keys: Tensor | None = None,
    text_keys: Tensor | None = None,
    size: Tensor | None = None,
    asks: Tensor | None = None,
    vision: VisionSignals | None = None,
) -> Signals:
    """Signals that give what they were made of; what is None is missing, and asking for it fails the test.

    `text_attention`, `keys`, `text_keys`, `asks` and `vision` are what `Signals` calls so.

    Args:
        geometry: of N visual tokens.
        hidden: (N, D).
        point: where the stage acts.
        text: (M, D).
        attention: (R, N), of whose last rows the mean is given.
        size: (N,), ones where it is None.
    """

    def given(name: str, value: Any) -> Any:
        if value is None and attention is None and "attention" in name:
            raise no_attention(point)
        if value is None:
            raise AssertionError(f"the stage asked for `{name}`, which this test does not provide")
        return value

    return Signals(
        point=point,
        geometry=geometry,
        size=torch.ones(len(geometry)) if size is None else size,
        hidden=lambda: hidden,
        text=lambda: given("text", text),
        asks=lambda: torch.ones(len(given("text", text)), dtype=torch.bool) if asks is None else asks,
        has_attention=attention is not None,
        attention=lambda rows: given("attention", attention)[-rows:].mean(0),
        text_attention=lambda: given("text_attention", text_attention),
        keys=lambda: given("keys", keys),
        text_keys=lambda: given("text_keys", text_keys),
        vision=lambda: given("vision", vision),
    )


def run_stage(method: Method, signals: Signals, layers: int = 28) -> Plan | None:
    """The plan of a method's only stage at the point of `signals`, in a model of so many `layers`."""
    (stage,) = method.stages()
    plan, _ = stage.step(stage.start(Setting(layers, signals.geometry)), signals)
    return plan
