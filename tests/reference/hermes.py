"""HERMES (https://arxiv.org/abs/2601.14724), all layers of a stream, written out with loops."""

from __future__ import annotations

import math


def kinds(layers, short=0.3, long=0.3):
    """Of each layer its kind and, between shallow and deep, how far it is on the way."""
    begin, end = math.ceil(short * layers), layers - math.ceil(long * layers)
    found = []
    for layer in range(layers):
        if layer < begin:
            found.append(("short", 0.0))
        elif layer >= end:
            found.append(("long", 0.0))
        else:
            found.append(("mid", (layer - begin) / max(1, end - begin - 1)))
    return found


def scores(attention, kind, along):
    """Of the attention to each entry, the oldest first, and its age."""
    mix, decay = 0.0, 0.5
    if kind == "short":
        mix, decay = 1.0, 20.0
    elif kind == "mid":
        mix, decay = 1.0 + (0.1 - 1.0) * along, 20.0 + (0.5 - 20.0) * along
    low, high, count = min(attention), max(attention), len(attention)
    result = []
    for number, paid in enumerate(attention):
        age = (count - 1 - number) / max(1, count - 1)
        share = (paid - low) / (high - low) if high > low else 0.0
        result.append((1 - mix) * share + mix * math.exp(-decay * age))
    return result


def kept(names, attention, protected, budget, folds=True):
    """By layer, the numbers of the entries that stay and of those folded into a summary.

    names: by layer, which token each entry is; None for a summary. attention: by layer, of each entry.
    """
    made = kinds(len(names))
    score = [scores(paid[protected:], *kind) for paid, kind in zip(attention, made, strict=True)]
    for layer in range(len(names) - 2, -1, -1):
        share = {"long": 0.4, "mid": 0.3, "short": 0.1}[made[layer][0]]
        deeper = dict(zip(names[layer + 1][protected:], score[layer + 1], strict=True))
        for number, name in enumerate(names[layer][protected:]):
            if name in deeper:
                score[layer][number] = (1 - share) * score[layer][number] + share * deeper[name]
    result = []
    for layer, own in enumerate(names):
        count = len(own)
        if count <= budget:
            result.append((list(range(count)), []))
            continue
        deep = made[layer][0] == "long" and folds
        room = budget - protected - (1 if deep else 0)
        able = [i for i in range(count - protected) if not (deep and own[i + protected] is None)]
        chosen = sorted(able, key=lambda i: -score[layer][i])[:room]
        stay = sorted(i + protected for i in chosen)
        folded = [i for i in range(protected, count) if i not in stay] if deep else []
        result.append(([*range(protected), *stay], folded))
    return result
