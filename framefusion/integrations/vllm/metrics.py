"""Counters of visual tokens on the engine's own page of metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

NAME = "framefusion_visual_tokens"
READ, KEPT = "in", "kept"


@cache
def counter() -> Any:
    """Made when it is first needed: where several processes serve, their common folder is known by then."""
    from prometheus_client import Counter

    return Counter(NAME, "Visual tokens of requests, without the reduction (in) and with it (kept).", ["stage"])


def count(updates: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """Add the pictures and videos of one request. updates: of its prompt, by kind and item, also from a cache."""
    totals = [tokens for items in updates.values() for item in items for tokens in _tokens(item)]
    for stage, number in zip((READ, KEPT), map(sum, zip(*totals, strict=True)), strict=False):
        counter().labels(stage).inc(number)


def _tokens(item: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Visual tokens of one picture or video, before and after."""
    for update in item:
        content = update.content
        reduced = getattr(content.is_embed, "visual", None)
        whole = len(content.full) if content.is_embed is None else int(content.is_embed(content.full).sum())
        yield reduced or (whole, whole)
