"""What the tests of single methods share: drive one, list what it kept, and count it inside a model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from framefusion.core.layout import PATCH, Geometry
from framefusion.core.method import Method, before
from framefusion.core.plan import Plan
from framefusion.testing.signals import make_signals, run_stage
from tests.support.driving import TINY_LAYERS as LAYERS
from tests.support.driving import in_a_model
from tests.support.driving import tiny_model as model_of  # noqa: F401

WIDTH = 16
FAMILIES = ("qwen3_vl", "llava_onevision")


def thinned(geometry: Geometry, share: float = 0.6, seed: int = 5) -> Geometry:
    """What an earlier method may have left of a layout."""
    alive = torch.rand(len(geometry), generator=torch.Generator().manual_seed(seed)) < share
    return geometry[alive.nonzero().flatten()]


SHAPES: dict[str, Geometry] = {
    "4x4x4": Geometry.grid(4, 4, 4),
    "9x3x5": Geometry.grid(9, 3, 5),
    "6x5x7": Geometry.grid(6, 5, 7),
    "2x3x3": Geometry.grid(2, 3, 3),
    "1x4x4": Geometry.grid(1, 4, 4),
    "1x1x1": Geometry.grid(1, 1, 1),
    "thinned": thinned(Geometry.grid(7, 4, 4)),
}
KEEPS: tuple[float | int, ...] = (0.1, 0.25, 0.475, 0.7, 1.0, 1, 20)


def noise(geometry: Geometry, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N, D) hidden states no two of which are alike."""
    return torch.randn(len(geometry), WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


def plan_of(method: Method, geometry: Geometry, hidden: Tensor, size: Tensor | None = None) -> Plan:
    """The plan of a method that looks at hidden states only."""
    plan = run_stage(method, make_signals(geometry, hidden, before(0), size=size))
    assert plan is not None
    return plan


def kept_by(method: Method, geometry: Geometry, hidden: Tensor) -> list[int]:
    return plan_of(method, geometry, hidden).keep.tolist()


def assert_clips_are_apart(method: Method, hidden_scale: float = 3.0) -> None:
    """Two clips in one row keep what each keeps alone."""
    first, second = Geometry.grid(4, 3, 3), Geometry.grid(5, 2, 4)
    a, b = noise(first), hidden_scale * noise(second, seed=1)
    together = kept_by(method, Geometry.cat([first, second.as_clip(1)]), torch.cat([a, b]))
    assert together == kept_by(method, first, a) + [len(first) + token for token in kept_by(method, second, b)]


def assert_declared_in_a_model(
    method: Method, family: str, declared: Callable[[Geometry], int], from_layer: int = 0
) -> None:
    """In a left-padded batch of two, layers read as many tokens as `declared` says of the patches of each clip, and
    each row answers as it does alone. Newlines that close a clip stay.
    """
    report = in_a_model(method, family).report
    layers, layout = report.layers, report.layout
    assert layout is not None
    expected = 0
    for geometry, _ in layout.rows:
        for clip in geometry.clip.unique().tolist():
            tokens = geometry[(geometry.clip == clip).nonzero().flatten()]
            patches = tokens[(tokens.kind == PATCH).nonzero().flatten()]
            expected += declared(patches) + len(tokens) - len(patches)
    everything = sum(layout.visual_tokens)
    assert [layer.visual_in for layer in layers] == [
        everything if layer < from_layer else expected for layer in range(LAYERS)
    ]
