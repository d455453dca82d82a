"""A KV cache of few bits: a library's through transformers, or one that rounds what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import DynamicCache, QuantizedCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from framefusion.core.errors import OptionError
from framefusion.engine.decoder.kv_cache import ReducedLayer
from framefusion.engine.model.cache_names import cache_name
from framefusion.engine.model.cropping import check_crop, crop_layer
from framefusion.engine.model.parts import find_parts
from framefusion.inference.quantization.groups import group_for
from framefusion.inference.quantization.libraries import require
from framefusion.inference.quantization.rounding import round_trip, stored_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.inference.quantization.precision import Precision

# Each library's package, its axis in transformers' words for groups along the head's width, and the widths it packs.
LIBRARIES = {"quanto": ("optimum.quanto", "optimum-quanto", 0, (2, 4)), "hqq": ("hqq", "hqq", 1, (2, 4, 8))}


class Rounding:
    """Before a layer of transformers' dynamic cache: rounds keys, rotated already, and values before they are kept.

    What is kept is also what attention reads, from the prompt on.
    """

    bits: int
    group: int | None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = (round_trip(states, self.bits, self.group) for states in (key_states, value_states))
        return super().update(keys, values, *args, **kwargs)  # type: ignore[misc]

    @property
    def simulated_bytes(self) -> float:
        """Bytes this layer would hold at its width, the numbers of its groups included."""
        kept = [tensor for tensor in (self.keys, self.values) if tensor is not None]  # type: ignore[attr-defined]
        return sum(stored_bytes(tensor.numel(), tensor.shape[-1], self.bits, self.group) for tensor in kept)


class RoundingLayer(Rounding, DynamicLayer):
    """Keeps everything."""

    def __init__(self, bits: int, group: int | None) -> None:
        super().__init__()
        self.bits, self.group = bits, group


class RoundingSlidingLayer(Rounding, DynamicSlidingWindowLayer):
    """Keeps a window."""

    def __init__(self, bits: int, group: int | None, sliding_window: int) -> None:
        super().__init__(sliding_window=sliding_window)
        self.bits, self.group = bits, group


class PackedCache(QuantizedCache):
    """transformers' cache of a library's widths, which says what it cannot crop."""

    def crop(self, tokens_to_remove: int) -> None:
        """Raises CacheCropError where that cuts into what is packed; nothing is cropped then."""
        count = -int(tokens_to_remove)
        for layer in self.layers:
            check_crop(layer, count)
        for layer in self.layers:
            if isinstance(layer, ReducedLayer):
                layer.crop(tokens_to_remove)
            elif layer.is_initialized:
                crop_layer(layer, count)


def new_cache(model: nn.Module, precision: Precision) -> Any:
    """An empty cache for one call of `generate`; None where the model's own is meant.

    Raises MissingPackageError without the library, OptionError where a model's cache cannot be quantised.
    """
    return None if precision.kv.full else cache_for(find_parts(model).model.config, precision)


def cache_for(config: Any, precision: Precision) -> Any:
    """`new_cache` from a model's configuration alone, so before its weights are there."""
    if precision.kv.full:
        return None
    if precision.kv.simulated:
        return _simulated(config, precision)
    library = library_of(precision)
    try:
        return PackedCache(library, config, **cache_options(config, precision))
    except ValueError as error:
        if isinstance(error, OptionError):
            raise
        hint = f"simulate with kv=sim{precision.kv.bits}, which rounds the layers that have keys"
        raise OptionError("this model has no quantised cache", str(error), hint) from error


def generation_options(model: nn.Module, precision: Precision | None) -> dict[str, Any]:
    """What one call of `generate` is given besides: an empty cache of that precision, nothing for the model's own."""
    cache = None if precision is None else new_cache(model, precision)
    return {} if cache is None else {cache_name(): cache}


def cache_options(config: Any, precision: Precision) -> dict[str, Any]:
    """What transformers' `QuantizedCache` is configured with."""
    library = library_of(precision)
    axis, bits = LIBRARIES[library][2], precision.kv.bits
    group = group_for(config, precision.kv_group, bits, packs_groups=library == "hqq")
    return {"nbits": bits, "axis_key": axis, "axis_value": axis, "q_group_size": group}


def library_of(precision: Precision) -> str:
    """Raises MissingPackageError where it is not installed, OptionError where it has no such width."""
    bits = precision.kv.bits
    name = precision.cache if precision.cache != "auto" else ("quanto" if bits in LIBRARIES["quanto"][3] else "hqq")
    module, package, _, widths = LIBRARIES[name]
    if bits not in widths:
        raise OptionError(
            f"{name} has no cache of {bits} bits", hint=f"it has {', '.join(map(str, widths))}; hqq has 8 as well"
        )
    require("kv", precision.kv, package, module)
    return name


def _simulated(config: Any, precision: Precision) -> DynamicCache:
    cache = DynamicCache(config=config.get_text_config(decoder=True))
    bits = precision.kv.bits
    group = group_for(config, precision.kv_group, bits, packs_groups=False)
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicSlidingWindowLayer:
            cache.layers[number] = RoundingSlidingLayer(bits, group, layer.sliding_window)
        elif type(layer) is DynamicLayer:
            cache.layers[number] = RoundingLayer(bits, group)
    return cache
