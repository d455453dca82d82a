"""FrameFusion for one prompt row, written down slowly from its description: lists and loops, no shared code.

Strict is the published algorithm: plain means of what is there, 28 layers in the budget whatever the model has, merging
and pruning over everything from the first to the last visual token. Sane is what this package does otherwise: means
weighted by the originals a token stands for, the model's own number of layers, visual tokens only, clips apart, and
pruning at the last layer that can still profit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TEXT = -1
PUBLISHED_LAYERS = 28
NEVER = -2.0


@dataclass
class Token:
    """One token: its number in the prompt, its value, and how many originals it stands for."""

    number: int
    value: list[float]
    patch: int
    clip: int = 0
    size: float = 1.0


@dataclass
class Reference:
    """State of the cascade over one row."""

    cost: float
    threshold: float
    least_ratio: float
    layers: int
    strict: bool
    shares: list[float] = field(default_factory=list)
    merging: bool = True
    done: bool = False

    def __post_init__(self) -> None:
        if self.strict:
            self.layers = PUBLISHED_LAYERS

    def removable(self) -> float:
        """Share of the present tokens that the budget wants gone."""
        left, spent = 1.0, 0.0
        for share in self.shares:
            left *= 1.0 - share
            spent += left
        remaining = self.layers - len(self.shares)
        if remaining <= 0 or left <= 0:
            return 0.0
        share = 1.0 - (self.layers * self.cost - spent) / (remaining * left)
        return min(1.0, max(0.0, share))

    def call(self, tokens: list[Token], scores: list[float] | None, layer: int | None) -> list[Token]:
        """One call: before layer 0 (`layer` None) or after the attention of `layer`. scores: one per token, or None."""
        if self.done:
            return tokens
        last = not self.strict and layer is not None and layer == self.layers - 2
        if self.merging and not last:
            return self.merge(tokens)
        assert scores is not None
        return self.prune(tokens, scores)

    def merge(self, tokens: list[Token]) -> list[Token]:
        similarity = self.similarities(tokens)
        visual = len(similarity)
        joining = {number for number, value in similarity.items() if value >= self.threshold}
        ratio = len(joining) / max(1, visual)
        if ratio < self.removable():
            self.shares.append(ratio)
            self.merging = ratio >= self.least_ratio
        else:
            count = int(self.removable() * visual)
            able = [number for number, value in similarity.items() if self.strict or value > NEVER]
            joining = set(sorted(able, key=lambda number: -similarity[number])[:count])
            self.merging, self.done = False, True
        return self.collapse(tokens, joining)

    def groups(self, tokens: list[Token]) -> list[list[Token]]:
        """Visual tokens of one place, in prompt order, place after place."""
        places: dict[tuple[int, int], list[Token]] = {}
        for token in tokens:
            if token.patch != TEXT:
                clip = 0 if self.strict else token.clip
                places.setdefault((clip, token.patch), []).append(token)
        return [places[place] for place in sorted(places)]

    def similarities(self, tokens: list[Token]) -> dict[int, float]:
        """Cosine of every visual token with the one before it at its place."""
        found = {}
        for group in self.groups(tokens):
            for index, token in enumerate(group):
                found[token.number] = cosine(group[index - 1].value, token.value) if index else NEVER
        return found

    def collapse(self, tokens: list[Token], joining: set[int]) -> list[Token]:
        """Every run of joining tokens collapses into the token just before it in the line of all groups."""
        line = [token for group in self.groups(tokens) for token in group]
        runs: list[list[Token]] = []
        for token in line:
            if token.number in joining and runs:
                runs[-1].append(token)
            else:
                runs.append([token])
        means = {run[0].number: self.mean(run) for run in runs}
        return [means.get(token.number, token) for token in tokens if token.patch == TEXT or token.number in means]

    def mean(self, run: list[Token]) -> Token:
        weights = [1.0 if self.strict else token.size for token in run]
        total = sum(weights)
        width = len(run[0].value)
        value = [math.fsum(w * t.value[i] for w, t in zip(weights, run, strict=True)) / total for i in range(width)]
        return Token(run[0].number, value, run[0].patch, run[0].clip, sum(token.size for token in run))

    def prune(self, tokens: list[Token], scores: list[float]) -> list[Token]:
        """Keep the best of the tokens in scope: strict from the first to the last visual one, else visual ones."""
        places = [index for index, token in enumerate(tokens) if token.patch != TEXT]
        if self.strict:
            places = list(range(places[0], places[-1] + 1))
        count = max(1, round(len(places) * (1.0 - self.removable())))
        best = set(sorted(places, key=lambda index: -scores[index])[:count])
        self.merging, self.done = False, True
        return [token for index, token in enumerate(tokens) if index not in places or index in best]


def cosine(left: list[float], right: list[float]) -> float:
    norms = math.sqrt(math.fsum(x * x for x in left)) * math.sqrt(math.fsum(x * x for x in right))
    return math.fsum(x * y for x, y in zip(left, right, strict=True)) / norms if norms else 0.0
