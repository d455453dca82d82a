"""Bytes, of tensors that libraries keep in parts as well."""

from __future__ import annotations

from typing import Any

import torch

from framefusion.engine.decoder.kv_cache import state_bytes

KEPT = ("keys", "values", "_quantized_keys", "_quantized_values")
HALF = 2


def nested_bytes(value: Any, of_float: int | None = None) -> int:
    """Bytes of a tensor, of a quantised tensor with its scales, or of a collection of them.

    of_float: what every floating-point number counts, None for what it takes.
    """
    if isinstance(value, torch.Tensor):
        if hasattr(value, "__tensor_flatten__"):
            names, _ = value.__tensor_flatten__()
            return sum(nested_bytes(getattr(value, name), of_float) for name in names)
        counted = of_float if of_float is not None and value.is_floating_point() else value.element_size()
        return value.numel() * counted
    if isinstance(value, dict):
        value = list(value.values())
    return sum(nested_bytes(part, of_float) for part in value) if isinstance(value, (list, tuple)) else 0


def cache_bytes(cache: Any) -> float:
    """Bytes of all keys and values in a transformers cache, and of the states of hybrid models, which stay whole.

    Of a cache of few bits, a library's or a simulated one alike: whole numbers as they are packed, or would be, and 16
    bits for every number beside them, of groups and of entries that are still whole, on a model in float32 as well. A
    cache as the model makes it counts what it takes.
    """
    layers = getattr(cache, "layers", ())
    return sum(_layer_bytes(layer) + state_bytes(layer) for layer in layers)


def _layer_bytes(layer: Any) -> float:
    stands_for = getattr(layer, "simulated_bytes", None)
    if stands_for is not None:
        return float(stands_for)
    of_float = HALF if getattr(layer, KEPT[-1], None) is not None else None
    return nested_bytes([getattr(layer, name, None) for name in KEPT], of_float)
