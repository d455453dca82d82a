"""PruneVid step by step, in float64, from its specification, without the noise of its clustering."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.divprune import cosine


def clusters(points: list[Tensor], count: int, k: int = 7) -> tuple[list[int], list[int]]:
    """Centres in ascending order and the number of each point's cluster; of duplicates the first is denser."""
    n, width = len(points), len(points[0])
    distance = [[math.sqrt(float(((a - b) ** 2).sum())) / math.sqrt(width) for b in points] for a in points]
    density = [math.exp(-sum(d * d for d in sorted(row)[:k]) / min(k, n)) for row in distance]
    widest = max(max(row) for row in distance)
    score = []
    for i in range(n):
        denser = [distance[i][j] for j in range(n) if density[j] > density[i] or (distance[i][j] == 0.0 and j < i)]
        score.append((min(denser) if denser else widest) * density[i])
    centres = sorted(sorted(range(n), key=lambda i: (-score[i], i))[:count])
    label = []
    for i in range(n):
        to_centre = [distance[i][c] for c in centres]
        label.append(centres.index(i) if i in centres else to_centre.index(min(to_centre)))
    return centres, label


def runs(labels: list) -> list[tuple[int, int]]:
    """(start, stop) of every maximal stretch of equal labels."""
    found, start = [], 0
    for i in range(1, len(labels) + 1):
        if i == len(labels) or labels[i] != labels[start]:
            found.append((start, i))
            start = i
    return found


def refine(labels: list[int]) -> list[int]:
    """Segment number of each frame."""
    marked: list[int | None] = list(labels)
    for label in set(labels):
        own = [(a, b) for a, b in runs(labels) if labels[a] == label]
        longest = max(b - a for a, b in own)
        for a, b in own:
            if b - a < longest or longest == 1:
                marked[a:b] = [None] * (b - a)
    for a, b in runs(list(marked)):
        if marked[a] is not None:
            continue
        left = right = 0
        while a - left - 1 >= 0 and marked[a - left - 1] == marked[a - 1]:
            left += 1
        while b + right < len(marked) and marked[b + right] == marked[b]:
            right += 1
        if left == 0 and right == 0:
            new: int | None = 0
        else:
            new = marked[a - 1] if left >= right else marked[b]
        marked[a:b] = [new] * (b - a)
    segment = [0] * len(labels)
    for number, (a, b) in enumerate(runs(marked)):
        segment[a:b] = [number] * (b - a)
    return segment


def reduced(points: list[Tensor], ratio: float) -> list[tuple[int, list[int]]]:
    """(centre, members) of the clusters of one group of tokens."""
    if len(points) <= 14:
        return [(i, [i]) for i in range(len(points))]
    centres, label = clusters(points, max(1, int(ratio * len(points))))
    return [(c, [i for i in range(len(points)) if label[i] == slot]) for slot, c in enumerate(centres)]


def merge(tokens: Tensor, frame: list[int], patch: list[int], tau: float, ratio: float) -> dict[int, tuple]:
    """Survivors of one clip: index -> (new value, group). Groups are ("static", segment) and ("frame", frame)."""
    wide = tokens.double()
    frames = sorted(set(frame))
    means = [torch.stack([wide[i] for i in range(len(wide)) if frame[i] == f]).mean(0) for f in frames]
    segment = refine(clusters(means, max(1, int(0.25 * len(frames))))[1])
    out: dict[int, tuple] = {}
    for number in sorted(set(segment)):
        inside = [i for i in range(len(wide)) if segment[frames.index(frame[i])] == number]
        places: dict[int, list[int]] = {}
        for i in inside:
            places.setdefault(patch[i], []).append(i)
        static = []
        for place in sorted(places):
            at = places[place]
            pairs = [cosine(wide[i], wide[j]) for i in at for j in at if i != j]
            if pairs and sum(pairs) / len(pairs) > tau:
                static.append(place)
        still = [torch.stack([wide[i] for i in places[place]]).mean(0) for place in static]
        for centre, members in reduced(still, ratio) if still else []:
            value = torch.stack([still[m] for m in members]).mean(0)
            out[places[static[centre]][0]] = (value, ("static", number))
        for f in sorted({frame[i] for i in inside}):
            moving = [i for i in inside if frame[i] == f and patch[i] not in static]
            for centre, members in reduced([wide[i] for i in moving], ratio) if moving else []:
                value = torch.stack([wide[moving[m]] for m in members]).mean(0)
                out[moving[centre]] = (value, ("frame", f))
    return dict(sorted(out.items()))


def ask(attention: Tensor, groups: list[tuple], alpha: float) -> list[int]:
    """Which of the merged tokens the question keeps. attention: (H, R, K)."""
    score = [float(attention[:, :, i].max()) for i in range(attention.shape[2])]
    kept: list[int] = []
    for group in set(groups):
        members = [i for i, g in enumerate(groups) if g == group]
        members.sort(key=lambda i: (-score[i], i))
        kept += members[: max(1, int(alpha * len(members)))]
    return sorted(kept)
