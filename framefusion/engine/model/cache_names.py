"""Names under which transformers carries the key-value cache, which 5.24 renamed from `past_key_values` to `cache`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache as memoize
from typing import Any

CACHE_NAMES = ("cache", "past_key_values", "past_key_value", "cache_params")


@memoize
def cache_name() -> str:
    """What the installed release calls the cache in the arguments of `forward` and `generate` and in their outputs."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    names = {field.name for field in fields(BaseModelOutputWithPast)}
    return next((name for name in CACHE_NAMES if name in names), CACHE_NAMES[0])


def cache_in(given: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a call, under any name; None when there is none."""
    return next((given[name] for name in CACHE_NAMES if given.get(name) is not None), None)


def cache_of(output: Any) -> Any:
    """The cache in what `forward` or `generate` returned, None when it has none."""
    return getattr(output, cache_name(), None)
