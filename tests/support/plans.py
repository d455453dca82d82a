"""Plans, streams and tensors drawn by hypothesis."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from framefusion.core.layout import Geometry, Layout, Placement
from framefusion.core.plan import GONE, Plan


@st.composite
def heads(draw, count):
    """(N,) a head for every token: survivors name themselves, the others a survivor of any place."""
    stays = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    stays[draw(st.integers(0, count - 1))] = True
    living = [index for index, stay in enumerate(stays) if stay]
    return torch.tensor([index if stay else draw(st.sampled_from(living)) for index, stay in enumerate(stays)])


@st.composite
def plans(draw, count, size=None):
    """A plan over `count` tokens that keeps, prunes and merges. size: (N,) originals each of them carries."""
    head = draw(heads(count))
    size = torch.ones(count) if size is None else size
    merge = Plan.merge(head, size)
    kind = draw(st.sampled_from(("merge", "select", "both", "identity")))
    if kind == "merge":
        return merge
    if kind == "identity":
        return Plan.identity(count)
    keep = (head == torch.arange(count)).nonzero().flatten()
    if kind == "select" or not merge.merges:
        return Plan.select(keep, count)
    joins = torch.tensor([draw(st.booleans()) for _ in range(len(merge.source))])
    owner = merge.owner.clone()
    owner[merge.source[~joins]] = GONE
    if not joins.any():
        return Plan(count, keep, owner)
    target, weight = merge.target[joins], merge.weight[joins]
    own = torch.ones(len(keep)).index_add(0, target, -weight)
    return Plan(count, keep, owner, target, merge.source[joins], weight, own)


@st.composite
def layouts(draw, rows=3, length=12):
    """Ragged rows: any number of visual tokens at any columns, none included; and which columns are real."""
    entries, real = [], torch.zeros(rows, length, dtype=torch.bool)
    for row in range(rows):
        first, last = sorted((draw(st.integers(0, length - 1)), draw(st.integers(0, length - 1))))
        real[row, first : last + 1] = True
        columns = torch.tensor([c for c in range(first, last + 1) if draw(st.booleans())], dtype=torch.long)
        number = torch.arange(len(columns))
        entries.append((Geometry(number * 0, number * 0, number, number, number, number), Placement(columns)))
    return Layout(tuple(entries), length), real
