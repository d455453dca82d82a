"""HERMES: shallow layers remember the latest, deep layers what matters, and those between both.

Paper: https://arxiv.org/abs/2601.14724. Differs from the published code: layers are smoothed token by token, and a
token that the deeper layer holds no longer keeps its own score; layers between are scored by the local question; a
summary weighs as many tokens as it stands for when it is folded once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import torch

from framefusion.core.options import Mix
from framefusion.inference.stream.policies.policy import Entries, Kept, Policy, behind_protected, everything

if TYPE_CHECKING:
    from torch import Tensor

LOCAL, GLOBAL = 0, 1


@dataclass(frozen=True)
class Hermes(Policy):
    """One budget for every layer; all heads of a layer keep the same entries.

    The two questions guide what is kept. The paper's wording is for models of everyday language; a model that was
    trained on a few questions, or a stream about one matter, may be better served by others.

    Args:
        short: share of the layers, from the first on, that remember the latest.
        long: share of the layers, up to the last, that remember what the question looks at.
        folds: whether long-term layers put what they drop into one summary entry.
        local: question about what happens now, for the layers up to the last `long` ones.
        overall: question about the stream as a whole, for the last `long` layers.
    """

    short: Mix = 0.3
    long: Mix = 0.3
    folds: bool = True
    local: str = "What is happening now?"
    overall: str = "What is the video about?"

    @property
    def questions(self) -> tuple[str, ...]:
        return self.local, self.overall

    def question_of(self, layer: int, layers: int) -> int:
        return GLOBAL if self.depth(layer, layers)[0] == "long" else LOCAL

    def depth(self, layer: int, layers: int) -> tuple[str, float]:
        """Which kind of memory a layer is, and where it stands within that kind, from 0 to 1."""
        begin, end = ceil(self.short * layers), layers - ceil(self.long * layers)
        if layer < begin:
            return "short", 0.0
        if layer >= end:
            return "long", 0.0
        return "mid", (layer - begin) / max(1, end - begin - 1)

    def compress(self, layers: Sequence[Entries], budget: int) -> list[Kept]:
        kinds = [self.depth(number, len(layers)) for number in range(len(layers))]
        scores = [self.score(entries, *kind) for entries, kind in zip(layers, kinds, strict=True)]
        for number in reversed(range(len(layers) - 1)):
            share = {"long": 0.4, "mid": 0.3, "short": 0.1}[kinds[number][0]]
            scores[number] = smoothed(scores[number], layers[number], scores[number + 1], layers[number + 1], share)
        made = zip(layers, scores, kinds, strict=True)
        return [
            self.choose(entries, score, kind == "long", budget) if entries.count > budget else everything(entries)
            for entries, score, (kind, _) in made
        ]

    def score(self, entries: Entries, kind: str, along: float) -> Tensor:
        """(n,) of the entries that are not protected: attention and recency, mixed as the layer's depth says."""
        count = entries.count - entries.protected
        recency, decay = {"short": (1.0, 20.0), "long": (0.0, 0.5)}.get(kind, (1 - 0.9 * along, 20 - 19.5 * along))
        age = torch.arange(count - 1, -1, -1, device=entries.keys.device) / max(1, count - 1)
        recent = torch.exp(-decay * age)
        if entries.scores is None or not count:
            return recent
        attention = entries.scores[entries.protected :].float()
        low, high = attention.min(), attention.max()
        attention = (attention - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
        return (1 - recency) * attention + recency * recent

    def choose(self, entries: Entries, score: Tensor, deep: bool, budget: int) -> Kept:
        room = budget - entries.protected
        if not deep or not self.folds or room < 2:
            chosen = score.topk(room).indices + entries.protected
            return Kept(behind_protected(chosen[None], entries.protected))
        summary = entries.place[0, entries.protected :] < 0
        chosen = score.masked_fill(summary, -torch.inf).topk(room - 1).indices
        dropped = torch.ones_like(summary)
        dropped[chosen] = False
        folded = dropped.nonzero().flatten() + entries.protected
        return Kept(behind_protected(chosen[None] + entries.protected, entries.protected), folded)


def smoothed(score: Tensor, entries: Entries, deeper: Tensor, below: Entries, share: float) -> Tensor:
    """`score` mixed with that of the same tokens in the next layer, where it holds them."""
    mine, theirs = _names(entries), _names(below)
    if not len(theirs):
        return score
    order = theirs.argsort()
    place = torch.searchsorted(theirs[order], mine).clamp(max=len(theirs) - 1)
    found = theirs[order][place] == mine
    return torch.where(found, (1 - share) * score + share * deeper[order][place], score)


def _names(entries: Entries) -> Tensor:
    """(n,) one number for each token that is not protected."""
    frame, place = entries.frame[0, entries.protected :].long(), entries.place[0, entries.protected :].long()
    return (frame << 32) + place
