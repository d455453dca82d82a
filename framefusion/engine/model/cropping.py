"""Taking columns off the end of a layer of a transformers cache, also of one that keeps most of its entries packed."""

from __future__ import annotations

from typing import Any

from framefusion.core.errors import CacheCropError

PACKED = "_quantized_keys"


def crop_layer(layer: Any, count: int) -> None:
    """Drop the last `count` entries of a layer. Raises CacheCropError where a quantised layer holds them packed.

    transformers (5.17 to 5.24) crops what such a layer keeps whole, its latest entries, and leaves the length it
    reports and whatever is packed.
    """
    check_crop(layer, count)
    layer.crop(-count)
    if count and hasattr(layer, PACKED):
        layer.cumulative_length -= count


def check_crop(layer: Any, count: int) -> None:
    """Raises CacheCropError where `crop_layer` would; nothing is changed."""
    if count <= 0 or getattr(layer, PACKED, None) is None:
        return
    whole = layer.keys.shape[-2] if layer.keys.dim() > 1 else 0
    if count > whole:
        raise CacheCropError(
            f"a quantised cache cannot be cropped by {count} columns",
            f"it keeps its last {whole} entries whole; those before are packed in groups",
            "crop a copy made before, start from a new cache, or round instead of packing (kv=sim4)",
        )
