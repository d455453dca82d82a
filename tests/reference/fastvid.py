"""FastVID step by step, in float64, for one clip, from its specification; see the method's page for the exact count."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.divprune import cosine
from tests.reference.prunevid import clusters

TIE = 1e-6


def cut(means: list[Tensor], segments: int, tau: float) -> list[list[int]]:
    """Frames of each segment. means: one vector per frame."""
    alike = [round(cosine(means[f], means[f + 1]), 9) for f in range(len(means) - 1)]
    least = sorted(range(len(alike)), key=lambda f: alike[f])[: segments - 1]
    found = [[0]]
    for f in range(1, len(means)):
        if f - 1 in least or alike[f - 1] < tau:
            found.append([])
        found[-1].append(f)
    return found


def deal(room: list[int], count: int) -> list[int]:
    """`count` seats dealt evenly: fill the smallest groups first, leftovers to the earlier ones with room."""
    given = [0] * len(room)
    while sum(given) < count:
        free = [i for i in range(len(room)) if given[i] < room[i]]
        lowest = min(given[i] for i in free)
        given[next(i for i in free if given[i] == lowest)] += 1
    return given


def seats_of(room: list[int], wanted: int, variant: str) -> list[int]:
    """Context tokens of each anchor frame."""
    if variant == "exact":
        return deal(room, min(wanted, sum(room)))
    even, over = divmod(wanted, len(room))
    seats = [even] * len(room)
    if variant == "llava_video":
        seats[len(room) - over :] = [even + 1] * over
    return [min(pair) for pair in zip(seats, room, strict=True)]


def by_attention(tokens: list[int], attention: Tensor, count: int) -> list[int]:
    return sorted(tokens, key=lambda token: -float(attention[token]))[:count]


def nearest(token: int, targets: list[int], rows: Tensor) -> int:
    likeness = [cosine(rows[token], rows[target]) for target in targets]
    return next(target for target, like in zip(targets, likeness, strict=True) if like >= max(likeness) - TIE)


def fastvid(
    hidden: Tensor,
    frame: list[int],
    attention: Tensor,
    budget: list[int],
    segments: int = 8,
    tau: float = 0.9,
    share: float = 0.4,
    every: int = 4,
    beta: float = 0.6,
    size: Tensor | None = None,
    variant: str = "exact",
) -> dict[int, Tensor]:
    """Survivors of one clip and their values. budget: tokens of each frame. variant: as the method has it."""
    rows = hidden.double()
    sizes = [1.0] * len(rows) if size is None else size.tolist()
    members = [[i for i in range(len(rows)) if frame[i] == f] for f in range(len(budget))]
    values: dict[int, Tensor] = {}
    for frames in cut([rows[tokens].mean(0) for tokens in members], segments, tau):
        tokens = [i for f in frames for i in members[f]]
        context = {f: int(budget[f] * share) for f in frames}
        chosen = {f: budget[f] - context[f] for f in frames}
        wanted = sum(context.values())
        if variant == "llava_video":
            wanted = int(sum(budget[f] for f in frames) * share)
            chosen = dict(
                zip(frames, deal([len(rows)] * len(frames), sum(budget[f] for f in frames) - wanted), strict=True)
            )
        salient = {f: by_attention(members[f], attention, chosen[f]) for f in frames}
        kept = [i for f in frames for i in salient[f]]
        anchor_frames = sorted(f for f in frames if (frames[-1] - f) % every == 0)
        left = {f: [i for i in members[f] if i not in kept] for f in anchor_frames}
        room = [len(left[f]) for f in anchor_frames]
        anchors: dict[int, list[int]] = {}
        for f, seats in zip(anchor_frames, seats_of(room, wanted, variant), strict=True):
            if seats:
                anchors[f] = [left[f][c] for c in clusters([rows[i] for i in left[f]], seats, 4)[0]]
                kept += anchors[f]
        if variant == "exact":
            kept += by_attention([i for i in tokens if i not in kept], attention, max(0, wanted - sum(room)))
        values.update({i: rows[i] for i in kept})
        rest = [i for i in tokens if i not in kept]
        for own in anchors.values():
            joined: dict[int, list[int]] = {a: [] for a in own}
            others = [a for group in anchors.values() for a in group if variant == "llava_onevision" or a not in own]
            for i in rest if variant == "exact" else rest + others:
                joined[nearest(i, own, rows)].append(i)
            for a, group in joined.items():
                if group:
                    weight = torch.tensor([sizes[i] for i in group]).double()
                    mean = (weight[:, None] * rows[group]).sum(0) / weight.sum()
                    w = max(sizes[a] / (sizes[a] + float(weight.sum())), beta)
                    values[a] = w * rows[a] + (1 - w) * mean
    return dict(sorted(values.items()))
