"""What a method may look at in a serving engine: one video's embeddings, and what its tower computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import torch

from framefusion.core.errors import MissingSignalError
from framefusion.core.method import Signals, VisionSignals, before
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.stage import pictures_of

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry


def signals_of(
    hidden: Tensor, geometry: Geometry, vision: VisionSignals | None, repeated: Tensor | None = None
) -> Signals:
    """hidden: (N, D) embeddings of one item. vision: what the tower gave; else the embeddings speak for it.

    No question is known: nothing follows the visual tokens.

    repeated: (n,) of its first n tokens, which one each repeats; those behind repeat none.
    """

    def absent(*_: object) -> NoReturn:
        raise MissingSignalError("a serving engine has no such signal in front of the language model")

    def repeats() -> Tensor:
        whole = torch.arange(len(geometry), device=hidden.device)
        if repeated is not None:
            whole[: len(repeated)] = repeated.to(hidden.device)
        return whole

    seen = vision if vision is not None else embedding_signals(hidden, geometry)
    return Signals(
        point=before(0),
        geometry=geometry,
        size=torch.ones(len(geometry), device=hidden.device),
        hidden=lambda: hidden,
        text=lambda: hidden[:0],
        asks=lambda: torch.zeros(0, dtype=torch.bool, device=hidden.device),
        has_attention=False,
        attention=absent,
        text_attention=absent,
        keys=absent,
        text_keys=absent,
        vision=lambda: seen,
        repeats=repeats,
    )


def embedding_signals(hidden: Tensor, geometry: Geometry) -> VisionSignals:
    """A patch is looked at as much as the others of its frame resemble it: softmax over cosines, averaged over rows."""

    def saliency(layer: int, headless: bool) -> Tensor:
        unit, score = unit_rows(hidden), torch.zeros(len(hidden), device=hidden.device)
        for index in pictures_of(geometry):
            score[index] = torch.softmax(unit[index] @ unit[index].T * hidden.shape[1] ** 0.5, 1).mean(0)
        return score

    return VisionSignals("embeddings", saliency, lambda layer: hidden, lambda: hidden)
