"""Prompt rows that are drawn, with every signal a stage can ask for: what methods are tried on without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import Geometry
from framefusion.core.method import Point, Signals, VisionSignals, before
from framefusion.core.plan import Plan
from framefusion.testing.signals import make_signals

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HEADS, KV_HEADS, HEAD_WIDTH = 16, 4, 2, 8


@dataclass(frozen=True)
class Row:
    """One prompt row with every signal a stage can ask for, made by `make_row`.

    `geometry`, `hidden`, `text_attention`, `keys`, `text`, `text_keys`, `asks` and `size` are what `Signals` calls so.

    Args:
        name: layout and content, for messages.
        attention: (R, N) by query row.
        saliency: (N,) as the vision tower's class token attends.
        vision_keys: (N, H * d) of the tower.
    """

    name: str
    geometry: Geometry
    hidden: Tensor
    attention: Tensor
    text_attention: Tensor
    keys: Tensor
    text: Tensor
    text_keys: Tensor
    asks: Tensor
    size: Tensor
    saliency: Tensor
    vision_keys: Tensor

    def signals(self, point: Point, needs: frozenset[str]) -> Signals:
        """What a stage may see at `point`: nothing beyond its `needs`, and no attention before the first layer."""
        seen: dict[str, Any] = {"size": self.size}
        if "text" in needs:
            seen |= {"text": self.text, "asks": self.asks}
        if "vision" in needs:
            seen |= {"vision": self._vision()}
        if point != before(0):
            names = {"attention", "text_attention", "keys", "text_keys"}
            seen |= {name: getattr(self, name) for name in names & needs}
        signals = make_signals(self.geometry, self.hidden, point, **seen)
        signals = replace(signals, has_attention=point != before(0))
        return signals if "hidden" in needs else replace(signals, hidden=_undeclared)

    def _vision(self) -> VisionSignals:
        return VisionSignals(
            source="cls",
            saliency=lambda layer, headless: self.saliency,
            keys=lambda layer: self.vision_keys,
            features=lambda: self.vision_keys,
        )

    def after(self, plan: Plan) -> Row:
        """What `plan` leaves of the row."""
        return replace(
            self,
            geometry=self.geometry[plan.keep],
            hidden=plan.apply(self.hidden),
            attention=self.attention[..., plan.keep],
            text_attention=self.text_attention[..., plan.keep],
            keys=self.keys[plan.keep],
            size=plan.sizes(self.size),
            saliency=self.saliency[plan.keep],
            vision_keys=self.vision_keys[plan.keep],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the row and of its geometry by name."""
        own = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("name", "geometry")
        }
        return own | {field.name: getattr(self.geometry, field.name) for field in fields(Geometry)}


def _undeclared() -> Tensor:
    raise AssertionError("the stage asked for `hidden`, which it does not declare")


def geometries() -> dict[str, Geometry]:
    """Layouts a method meets: even and odd grids, newlines, pictures, several clips, what another method left."""
    video = Geometry.grid(4, 4, 4)
    thinned = torch.rand(len(video), generator=torch.Generator().manual_seed(3)) < 0.6
    closed = Geometry.cat([Geometry.grid(3, 3, 3), Geometry.newline(2, 9)])
    return {
        "video": video,
        "odd": Geometry.grid(5, 5, 3),
        "row newlines": Geometry.grid(4, 3, 3, row_newline=True),
        "closing newline": closed,
        "two frames": Geometry.grid(2, 3, 4),
        "one frame": Geometry.grid(1, 4, 4),
        "one token": Geometry.grid(1, 1, 1),
        "clips": Geometry.cat([Geometry.grid(1, 3, 3), Geometry.grid(4, 2, 3).as_clip(1)]),
        "thinned": video[thinned.nonzero().flatten()],
    }


def contents(geometry: Geometry, seed: int = 0) -> dict[str, Tensor]:
    """(N, D) hidden states for the tokens of `geometry` by kind; `seed` draws them."""
    draw = torch.Generator().manual_seed(seed)
    count = len(geometry)
    values = torch.randn(count, WIDTH, generator=draw)
    still = torch.randn(int(geometry.patch.max()) + 1, WIDTH, generator=draw)[geometry.patch]
    return {
        "random": values,
        "duplicates": still,
        "equal": values[:1].repeat(count, 1),
        "zeros": torch.zeros(count, WIDTH),
        "some zeros": values * (torch.arange(count) % 3 > 0)[:, None],
    }


def make_row(name: str, geometry: Geometry, hidden: Tensor, seed: int = 0, words: int = 6) -> Row:
    """A prompt row whose signals are drawn.

    Args:
        name: of the row, for messages.
        geometry: of its visual tokens.
        hidden: (N, D), their hidden states; the other signals have its type.
        seed: draws the other signals.
        words: number of text tokens, of which the last half asks.
    """
    draw = torch.Generator().manual_seed(seed + 100)
    count, asking = len(geometry), (words + 1) // 2

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(hidden.dtype)

    weights = torch.randn(HEADS, asking, count + words, generator=draw).softmax(-1)[..., :count]
    return Row(
        name=name,
        geometry=geometry,
        hidden=hidden,
        attention=weights.mean(0),
        text_attention=weights,
        keys=normal(count, KV_HEADS, HEAD_WIDTH),
        text=normal(words, WIDTH),
        text_keys=normal(words, KV_HEADS, HEAD_WIDTH),
        asks=torch.arange(words) >= words - asking,
        size=torch.ones(count),
        saliency=torch.randn(count, generator=draw).softmax(0),
        vision_keys=normal(count, KV_HEADS * HEAD_WIDTH),
    )


def rows(seed: int = 0, dtype: torch.dtype = torch.float32, kinds: Sequence[str] = ()) -> Iterator[Row]:
    """Every layout with every kind of content, or with those of `kinds`, drawn by `seed`, in `dtype`."""
    for layout, geometry in geometries().items():
        for kind, hidden in contents(geometry, seed).items():
            if not kinds or kind in kinds:
                yield make_row(f"{layout}, {kind}", geometry, hidden.to(dtype), seed)
