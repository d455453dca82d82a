"""How many neighbouring values of a key or a value share one scale."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Any

from framefusion.core.errors import OptionError

LARGEST_GROUP = 64
BITS_OF_A_BYTE = 8


def cached_shapes(config: Any) -> set[tuple[int, int]]:
    """(heads, width) of the keys and values that the layers of a model may cache, several where its layers differ."""
    text = config.get_text_config(decoder=True)
    layers = text.per_layer_config if getattr(text, "is_heterogeneous", False) else [text]
    return {shape for layer in layers for shape in _of_layer(layer)}


def _of_layer(config: Any) -> Iterator[tuple[int, int]]:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if getattr(config, "kv_lora_rank", None):
        # Latent attention: releases cache what it is made from, once for all heads, or what each head reads.
        turned = getattr(config, "qk_rope_head_dim", None) or 0
        read = (getattr(config, "qk_nope_head_dim", None) or 0) + turned, getattr(config, "v_head_dim", None)
        shapes = [(1, config.kv_lora_rank), (1, turned), *((heads, width) for width in read)]
    else:
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shapes = [(heads, width), (heads, getattr(config, "global_head_dim", None))]
    yield from ((number, width) for number, width in shapes if width)


def group_for(config: Any, asked: int | None, bits: int, packs_groups: bool) -> int:
    """Values that share a scale, in every layer.

    asked: None for the largest divisor of the heads' width up to 64. packs_groups: bytes hold values of neighbouring
    groups (HQQ), so that the groups of a token must fill them, whatever the number of tokens.

    Raises OptionError.
    """
    shapes = cached_shapes(config)
    width = gcd(*(wide for _, wide in shapes))
    together = BITS_OF_A_BYTE // bits if packs_groups else 1

    def fits(size: int) -> bool:
        return width % size == 0 and all(heads * wide // size % together == 0 for heads, wide in shapes)

    fitting = next((size for size in range(min(LARGEST_GROUP, width), 0, -1) if fits(size)), None)
    found = fitting if asked is None else asked
    if found is not None and fits(found):
        return found
    smaller = f"write kv_group={fitting}, or leave it out"
    instead = smaller if fitting else f"write cache=quanto, or simulate with kv=sim{bits}"
    if asked is not None and width % asked:
        widths = " and ".join(str(wide) for wide in sorted({wide for _, wide in shapes}))
        what = f"kv_group={asked} does not divide the heads of this model"
        raise OptionError(what, f"they have {widths} values", instead)
    raise OptionError(
        f"hqq cannot pack the groups of this model's cache in {bits} bits",
        f"a byte holds {together} of them, and one token makes a number that {together} does not divide",
        instead,
    )
