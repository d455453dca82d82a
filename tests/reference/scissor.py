"""LLaVA-Scissor step by step, in float64, from its specification, with exact connected components."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.divprune import cosine


def parts(vectors: list[Tensor], tau: float) -> list[tuple[int, list[int]]]:
    """(best connected node, members) of every connected component in the order of these nodes, by a search."""
    n = len(vectors)
    joined = [[j for j in range(n) if j != i and cosine(vectors[i], vectors[j]) > tau] for i in range(n)]
    found, seen = [], set()
    for start in range(n):
        if start in seen:
            continue
        stack, members = [start], []
        seen.add(start)
        while stack:
            node = stack.pop()
            members.append(node)
            for other in joined[node]:
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        members.sort()
        found.append((max(members, key=lambda i: (len(joined[i]), -i)), members))
    return sorted(found)


def scissor(tokens: Tensor, frame: list[int], tau: float) -> tuple[list[int], Tensor]:
    """Survivors of the (N, D) tokens of one clip, in prompt order, and their new values (K, D)."""
    wide = tokens.double()
    heads, means = [], []
    for number in sorted(set(frame)):
        inside = [i for i, f in enumerate(frame) if f == number]
        for head, members in parts([wide[i] for i in inside], tau):
            heads.append(inside[head])
            means.append(torch.stack([wide[inside[m]] for m in members]).mean(0))
    final = []
    for head, members in parts(means, tau):
        final.append((heads[head], torch.stack([means[m] for m in members]).mean(0)))
    final.sort(key=lambda pair: pair[0])
    joining: list[list[Tensor]] = [[] for _ in final]
    for token in wide:
        similarity = [cosine(token, mean) for _, mean in final]
        joining[similarity.index(max(similarity))].append(token)
    values = [
        (mean + sum(members, torch.zeros_like(mean))) / (len(members) + 1)
        for (_, mean), members in zip(final, joining, strict=True)
    ]
    return [head for head, _ in final], torch.stack(values)
