"""LLaVA-PruMerge and PruMerge+ (arXiv 2403.15388) for one picture, written out token by token.

`published` is the arithmetic of the released code, `sane` the form that is the default here. Both return the tokens
in the order in which they are chosen, the one that gathers what was pruned at the end.
"""

from __future__ import annotations

import math


def percentile(values, share):
    """Linear interpolation between the two nearest ranks."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def outliers(scores):
    first, third = percentile(scores, 0.25), percentile(scores, 0.75)
    return len([score for score in scores if score > third + 1.5 * (third - first)])


def by_score(scores):
    """Best first; of equals the one that comes first."""
    return sorted(range(len(scores)), key=lambda token: (-scores[token], token))


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def cosine(left, right):
    length = math.sqrt(dot(left, left)) * math.sqrt(dot(right, right))
    return dot(left, right) / length if length > 0 else 0.0


def nearest(token, keys, count):
    others = [other for other in range(len(keys)) if other != token]
    others.sort(key=lambda other: -cosine(keys[token], keys[other]))
    return others[:count]


def weighted_sum(vectors, weights):
    total = [0.0] * len(vectors[0])
    for vector, weight in zip(vectors, weights, strict=True):
        for channel, value in enumerate(vector):
            total[channel] += weight * value
    return total


def add(left, right):
    return [a + b for a, b in zip(left, right, strict=True)]


def published_choice(scores, plus):
    """Tokens by falling score, and with `plus` the samples of the released stride that are not among them."""
    total = len(scores)
    ratio = outliers(scores) / total
    if ratio == 0:
        # The released code divides by zero here.
        ratio = 1 / total
    chosen = by_score(scores)[: max(1, int(total * ratio))]
    if plus:
        stride = int(1 / ratio)
        for sample in range(0, total - 1, max(1, int(stride / 3))):
            if sample not in chosen:
                chosen.append(sample)
    return chosen


def published(features, scores, keys, plus=False, neighbours=32):
    """-> chosen tokens, their values, the value of the gathering token."""
    chosen = published_choice(scores, plus)
    pruned = [token for token in range(len(scores)) if token not in chosen]
    values = []
    for token in chosen:
        near = nearest(token, keys, neighbours)
        values.append(add(features[token], weighted_sum([features[n] for n in near], [scores[n] for n in near])))
    gathered = weighted_sum([features[p] for p in pruned], [scores[p] for p in pruned]) if pruned else None
    return chosen, values, gathered


def sane_choice(scores, keep, plus):
    """`keep` tokens in all, the gathering one included; None takes what stands out, and that one."""
    total = len(scores)
    ranked = by_score(scores)
    if keep is None:
        standing = max(1, outliers(scores))
        samples = 3 * standing if plus else 0
    else:
        standing = math.ceil((keep - 1) / 4) if plus else keep - 1
        samples = keep - 1 - standing
    chosen = ranked[:standing]
    free = [token for token in range(total) if token not in chosen]
    samples = min(samples, len(free))
    return chosen + [free[number * len(free) // samples] for number in range(samples)]


def sane(features, scores, keys, keep=None, plus=False, neighbours=32):
    """keep: a number of tokens below all of them, or None. -> as `published`."""
    chosen = sane_choice(scores, keep, plus)
    pruned = [token for token in range(len(scores)) if token not in chosen]
    values = []
    for token in chosen:
        near = nearest(token, keys, neighbours)
        mass = 1.0 + sum(scores[n] for n in near)
        total = add(features[token], weighted_sum([features[n] for n in near], [scores[n] for n in near]))
        values.append([value / mass for value in total])
    gathered = None
    if pruned:
        mass = sum(scores[p] for p in pruned)
        gathered = weighted_sum([features[p] for p in pruned], [scores[p] / mass for p in pruned])
    return chosen, values, gathered
