"""Fewer bits: weights, activations, KV cache and attention of a loaded model, by libraries or simulated.

    from framefusion.inference.quantization import Precision, quantize

    with quantize(model, Precision.parse("weights=int8,kv=int4")) as quantised:
        model.generate(**inputs, cache=new_cache(model, quantised.precision))  # `past_key_values=` before 5.24

`int4` is done by a library with kernels of its own; `sim4` is rounding in place, for widths nobody has kernels for.
Nothing here knows about tokens, and token reduction knows nothing of this: both can be on at once.
"""

from importlib import import_module
from typing import Any

# Loaded when asked for, so that a command can check its options before torch is there.
_ROOMS = {
    "Precision": "precision",
    "Width": "precision",
    "Quantised": "apply",
    "quantize": "apply",
    "new_cache": "cache",
}

__all__ = ["Precision", "Quantised", "Width", "new_cache", "quantize"]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
