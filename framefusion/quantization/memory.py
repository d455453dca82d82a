"""Bytes, of tensors that libraries keep in parts as well."""

from __future__ import annotations

from typing import Any

import torch

KEPT = ("keys", "values", "_quantized_keys", "_quantized_values")


def nested_bytes(value: Any) -> int:
    """Bytes of a tensor, of a quantised tensor with its scales, or of a collection of them."""
    if isinstance(value, torch.Tensor):
        if hasattr(value, "__tensor_flatten__"):
            names, _ = value.__tensor_flatten__()
            return sum(nested_bytes(getattr(value, name)) for name in names)
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(nested_bytes, value)) if isinstance(value, (list, tuple)) else 0


def cache_bytes(cache: Any) -> float:
    """Bytes of all keys and values in a transformers cache; of a simulated one, those it stands for."""
    return sum(_layer_bytes(layer) for layer in getattr(cache, "layers", ()))


def _layer_bytes(layer: Any) -> float:
    stands_for = getattr(layer, "simulated_bytes", None)
    return nested_bytes([getattr(layer, name, None) for name in KEPT]) if stands_for is None else stands_for
