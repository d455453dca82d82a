"""What cannot work on a reduced model, each with its own error. `docs/refusals.md` lists the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from transformers import QuantizedCache

from framefusion.core.errors import (
    AssistedDecodingError,
    CacheCropError,
    CheckpointingError,
    ChunkedPrefillError,
    CompiledModelError,
    ContinuousBatchingError,
    StaticCacheError,
)
from framefusion.engine.model.cache_names import cache_in

if TYPE_CHECKING:
    from torch import nn

    from framefusion.engine.model.parts import Block


FIXED = "its layers have one fixed size, reduced layers have sizes of their own"
FIXED_CACHES = ("static", "hybrid", "sliding_window")


def refuse_generation(given: Mapping[str, Any]) -> None:
    """Check the arguments of `generate`."""
    if _option(given, "assistant_early_exit") is not None:
        raise AssistedDecodingError(
            "a reduced model cannot draft with its own first layers",
            "the draft would end in front of the layer that returns the sequence to the prompt's length",
            "drop `assistant_early_exit`; `assistant_model` and `prompt_lookup_num_tokens` work",
        )
    if _option(given, "prefill_chunk_size") is not None:
        raise ChunkedPrefillError(
            "a reduced prompt cannot be read in chunks",
            "which tokens go is decided over the whole prompt",
            "drop `prefill_chunk_size`; the reduction itself lowers the memory of the prefill",
        )
    implementation = _option(given, "cache_implementation")
    drafts = any(_option(given, name) is not None for name in ("assistant_model", "prompt_lookup_num_tokens"))
    if drafts and (implementation == "quantized" or isinstance(cache_in(given), QuantizedCache)):
        raise CacheCropError(
            "a quantised cache cannot take back drafts",
            "the prompt and most of what follows is packed in groups, and cannot be cropped",
            "drop the drafts (`assistant_model`, `prompt_lookup_num_tokens`), or round the cache (kv=sim4)",
        )
    if _is_fixed(implementation):
        raise StaticCacheError(
            f'cache_implementation="{implementation}" cannot hold a reduced prompt',
            FIXED,
            "drop `cache_implementation`, or take the default dynamic cache",
        )


def with_dynamic_cache(given: Mapping[str, Any], model: nn.Module, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Some checkpoints (Gemma) name a static cache as their default; nobody asked for it, so take the dynamic one."""
    default = getattr(getattr(model, "generation_config", None), "cache_implementation", None)
    if not _is_fixed(default) or cache_in(given) is not None or _option(given, "cache_implementation"):
        return kwargs
    return {**kwargs, "cache_implementation": "dynamic"}


def _is_fixed(implementation: Any) -> bool:
    return implementation is not None and any(word in str(implementation) for word in FIXED_CACHES)


def refuse_checkpointing(block: Block, adds_planes: bool) -> None:
    """Re-entrant checkpoints hand the second run copies of a layer's inputs, which carry no trace of the first.

    adds_planes: visual features are added between the layers, inside the checkpoint where hooks run inside it.
    """
    import torch

    function = getattr(block.layer, "_gradient_checkpointing_func", None)
    if not getattr(function, "keywords", {}).get("use_reentrant", False):
        return
    hooks_inside = type(block.layer).__call__ is not torch.nn.Module.__call__
    if block.attention is None or (adds_planes and hooks_inside):
        raise CheckpointingError(
            "re-entrant gradient checkpointing cannot replay the reduction of this model",
            "a layer's second run gets copies of its inputs and cannot find the plans of the first",
            'use model.gradient_checkpointing_enable({"use_reentrant": False})',
        )


def refuse_compiled_layers(blocks: Iterable[Block]) -> None:
    for block in blocks:
        if getattr(block.layer, "_compiled_call_impl", None) is not None:
            raise CompiledModelError(
                "a decoder layer of the reduced model is compiled",
                "the sequence gets shorter inside the layer, which compiled code does not follow",
                "compile what lies inside the layers, after `reduce`: `layer.mlp.compile()`",
            )


def refuse_fixed_cache(cache: Any) -> None:
    if getattr(cache, "is_compileable", False):
        raise StaticCacheError(
            f"a {type(cache).__name__} cannot hold a reduced prompt",
            FIXED,
            'use the default cache: drop `cache_implementation="static"`',
        )


def refuse_continuous_batching(*args: Any, **kwargs: Any) -> None:
    raise ContinuousBatchingError(
        "continuous batching cannot run on a reduced model",
        "its paged cache knows one length per request, not one per layer",
        "use `generate` with a padded batch",
    )


def _option(given: Mapping[str, Any], name: str) -> Any:
    """An option of `generate`: the argument, else what the configuration passed along says."""
    if given.get(name) is not None:
        return given[name]
    return getattr(given.get("generation_config"), name, None)
