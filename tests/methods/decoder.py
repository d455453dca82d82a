"""Drive methods that act inside the language model: by hand, and in toy models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import framefusion as ff
from framefusion.core.layout import Geometry
from framefusion.core.method import Method, Setting, before
from framefusion.testing.signals import make_signals
from tests.support.tiny import build_model, moving_clip, prompt

LAYERS = 4
MODELS = ("qwen3_vl", "llava_onevision")
GRIDS = {
    "square": Geometry.grid(3, 6, 6),
    "odd": Geometry.grid(2, 7, 5),
    "one frame": Geometry.grid(1, 5, 3),
    "one row": Geometry.grid(2, 1, 6),
    "one token": Geometry.grid(1, 1, 1),
    "newlines": Geometry.grid(2, 5, 4, row_newline=True),
    "closing newline": Geometry.cat([Geometry.grid(2, 4, 4), Geometry.newline(1, 16)]),
    "two clips": Geometry.cat([Geometry.grid(2, 4, 4), Geometry.grid(3, 5, 3).as_clip(1)]),
    "thinned": Geometry.grid(3, 6, 6)[torch.arange(108)[torch.arange(108) % 5 != 2]],
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values(geometry: Geometry, kind: str = "random", seed: int = 0, width: int = 8) -> Tensor:
    """(N, D) hidden states of one kind."""
    count = len(geometry)
    random = draw(count, width, seed=seed)
    smooth = draw(1, width, seed=seed + 1) + 0.5 * random + 0.2 * geometry.column[:, None]
    return {
        "random": random,
        "smooth": smooth,
        "duplicates": random[geometry.patch.clamp(max=count - 1)],
        "equal": random[:1].expand(count, -1).clone(),
        "zeros": torch.zeros(count, width),
    }[kind]


def weights(rows: int, count: int, seed: int = 0) -> Tensor:
    """(R, N) attention, as seldom equal as softmax makes it."""
    return draw(rows, count, seed=seed).softmax(-1)


def everything(
    geometry: Geometry, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Callable[[int, Tensor], dict[str, Any]]:
    """All signals of a row: attention of one query row and of 4 asking words by 2 heads, another one per layer."""
    count = len(geometry)

    def at(layer: int, alive: Tensor) -> dict[str, Any]:
        text = draw(6, 8, seed=seed + 7).to(dtype)
        asks = torch.arange(6) >= 2
        if layer == 0:
            return {"text": text, "asks": asks}
        rows = draw(2, 4, count, seed=seed + 20 + layer).softmax(-1)
        return {
            "text": text,
            "asks": asks,
            "attention": weights(1, count, seed + 10 + layer)[:, alive],
            "text_attention": rows[..., alive],
            "keys": draw(count, 2, 4, seed=seed + 30 + layer)[alive].to(dtype),
        }

    return at


class Walk:
    """One prompt row led through all points of a method, layer by layer.

    signals_at(layer, alive): keyword arguments of `make_signals` for the tokens `alive` (n,) of the beginning.
    """

    def __init__(
        self,
        method: Method,
        geometry: Geometry,
        hidden: Tensor,
        signals_at: Callable[[int, Tensor], dict[str, Any]],
        layers: int = LAYERS,
    ) -> None:
        (stage,) = method.stages()
        state = stage.start(Setting(layers, geometry))
        self.alive, self.hidden, self.size = torch.arange(len(geometry)), hidden, torch.ones(len(geometry))
        self.counts: dict[int, int] = {}
        for layer in range(layers):
            if before(layer) not in tuple(stage.points(layers)):
                continue
            here = signals_at(layer, self.alive)
            signals = make_signals(geometry[self.alive], self.hidden, before(layer), size=self.size, **here)
            plan, state = stage.step(state, signals)
            if plan is not None:
                self.alive, self.hidden, self.size = (
                    self.alive[plan.keep],
                    plan.apply(self.hidden),
                    plan.sizes(self.size),
                )
            self.counts[layer] = len(self.alive)


def patches(geometry: Geometry, clip: int | None = None) -> list[int]:
    """Numbers of a clip's patch tokens, or of all."""
    chosen = geometry.kind == 0
    return (chosen if clip is None else chosen & (geometry.clip == clip)).nonzero().flatten().tolist()


def clips(geometry: Geometry) -> list[int]:
    return geometry.clip.unique().tolist()


def cells(geometry: Geometry, tokens: list[int]) -> list[tuple[int, int, int]]:
    return [(int(geometry.frame[t]), int(geometry.row[t]), int(geometry.column[t])) for t in tokens]


SHORT = [("video", moving_clip(seed=3, change=0.6)), ("text", "who?")]
LONG = [("text", "look here: "), ("video", moving_clip(seed=4, change=0.6)), ("text", "what does the left one do?")]


@torch.no_grad()
def check_in_model(method: Method, name: str) -> list[int]:
    """A left-padded batch answers as its rows do alone; returns what each layer reads for the first row."""
    model = build_model(name, layers=LAYERS)
    options = {"max_new_tokens": 5, "do_sample": False}
    with ff.reduce(model, method) as reduction:
        batch = prompt(name, [SHORT, LONG])
        together = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
        both = [layer.visual_in for layer in reduction.report.layers]
        read = []
        for number, row in enumerate((SHORT, LONG)):
            inputs = prompt(name, [row])
            alone = model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
            assert together[number].tolist() == alone.tolist()
            read.append([layer.visual_in for layer in reduction.report.layers])
    assert both == [a + b for a, b in zip(*read, strict=True)]
    return read[0]
