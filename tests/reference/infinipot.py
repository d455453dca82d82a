"""InfiniPot-V (https://arxiv.org/abs/2506.15745), one head of one layer, written out with loops."""

from __future__ import annotations

import math


def cosine(one, two):
    dot = sum(a * b for a, b in zip(one, two, strict=True))
    return dot / (math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in two)))


def kept(keys, values, frames, places, visual, protected, budget, query_ratio=0.25, tar_ratio=0.5):
    """Numbers of the entries that stay. Lists: of each entry its key, value, frame, place and whether it is visual."""
    count = len(keys)
    # The newest frames, whole, up to their share; at least one.
    newest = []
    for frame in sorted(set(frames[protected:]), reverse=True):
        entries = [i for i in range(protected, count) if frames[i] == frame]
        if newest and len(newest) + len(entries) > query_ratio * (count - protected):
            break
        newest += entries
    newest = sorted(newest)[-(budget - protected) :]
    older = [i for i in range(protected, count) if i not in newest]
    # Temporal redundancy: how alike a key is to those at its place in the newest frames.
    redundancy = {}
    for i in older:
        if visual[i]:
            same = [cosine(keys[i], keys[j]) for j in newest if visual[j] and places[j] == places[i]]
            redundancy[i] = sum(same) / len(same) if same else -1.0
    rest = budget - protected - len(newest)
    by_change = sorted(redundancy, key=lambda i: redundancy[i])[: int(tar_ratio * rest)]
    # Value norm: the others.
    norms = {i: math.sqrt(sum(v * v for v in values[i])) for i in older if i not in by_change}
    by_norm = sorted(norms, key=lambda i: -norms[i])[: rest - len(by_change)]
    return sorted([*range(protected), *newest, *by_change, *by_norm])
