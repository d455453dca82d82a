"""What a reduction relies on in transformers: checked before it begins, because a moved name would fail in silence.

A hook that does not find the cache under the name it knows takes every decode step for a prompt, and answers wrongly.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from functools import cache as once
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import UnsupportedReleaseError
from framefusion.core.installed import TESTED, versions_of
from framefusion.engine.model.cache_names import CACHE_NAMES, cache_name
from framefusion.engine.sequence.slicing import POSITION_TABLES

if TYPE_CHECKING:
    from framefusion.engine.model.parts import Block, ModelParts

CACHE_METHODS = (
    "update",
    "get_seq_length",
    "get_mask_sizes",
    "get_max_length",
    "lazy_initialization",
    "reset",
    "crop",
    "reorder_cache",
    "batch_repeat_interleave",
    "batch_select_indices",
)
GRIDS = ("image_grid_thw", "video_grid_thw", "image_grid_hw", "image_grids", "video_grids", "target_sizes")
PLANES, PLANE_MASK, ADDS_PLANES = "deepstack_visual_embeds", "visual_pos_masks", "_deepstack_process"
LAYER_PLANES, LAYER_MASK = "deepstack_features", "vision_mask"
HIDDEN = "hidden_states"
KEPT_LOGITS = ("logits_to_keep", "num_logits_to_keep")
HINT = f"install a tested release: pip install 'transformers=={TESTED[1]}.*'"


def check_release(parts: ModelParts) -> None:
    """Raises UnsupportedReleaseError where the model's code does not name its inputs as a reduction reads them."""
    _warn_above_tested_range()
    moved = next(_moved(parts), None)
    if moved is not None:
        raise UnsupportedReleaseError(
            f"transformers {_installed()} cannot be reduced safely: {moved}",
            "a reduction that does not see this input would answer wrongly without an error",
            HINT,
        )


def check_hidden_cache(given: dict[str, Any], caller: str) -> None:
    """Raises UnsupportedReleaseError where a call carries a cache under a name that nobody here reads."""
    from transformers.cache_utils import Cache

    for name, value in given.items():
        if isinstance(value, Cache):
            raise UnsupportedReleaseError(
                f"transformers {_installed()} cannot be reduced safely: {caller} receives its cache as `{name}`",
                f"a reduction knows it as {_either(CACHE_NAMES)}",
                HINT,
            )


def _moved(parts: ModelParts) -> Iterator[str]:
    """What is not where it is expected, in words."""
    for what, name in (("cache", cache_name()), (HIDDEN, HIDDEN)):
        if name not in _output_fields():
            yield f"outputs carry no {what}; their fields are {_listed(_output_fields())}"
    methods = _cache_layer_methods()
    for name in CACHE_METHODS:
        if name not in methods:
            yield f"a layer of its cache has no method `{name}`"
    decoder = parts.decoder
    yield from _missing(decoder, "its cache", CACHE_NAMES)
    yield from _missing(decoder, "embeddings", ("inputs_embeds",))
    yield from _missing(decoder, "its mask", ("attention_mask",))
    if _is_stock(decoder):
        yield from _missing(decoder, "its positions", ("position_ids",))
    if hasattr(decoder, ADDS_PLANES):
        yield from _missing(decoder, "features of its first layers", (PLANES,))
        yield from _missing(decoder, "places of visual tokens", (PLANE_MASK,))
    for entry in parts.entries:
        yield from _missing(entry, "token ids", ("input_ids",))
    if parts.entries:
        yield from _moved_in_prompt(parts.entries[0])
    # Where the decoder makes the rotary tables, it hands them to every layer.
    rotary = any("Rotary" in type(child).__name__ for child in decoder.children())
    for block in _kinds_of(parts.blocks):
        if _is_stock(block.layer):
            yield from _missing(block.layer, "hidden states", (HIDDEN,))
        yield from _missing(block.layer, "its mask", ("attention_mask",))
        if block.attention is None:
            continue
        yield from _missing(block.layer, "its cache", CACHE_NAMES)
        yield from _missing(block.attention, "its cache", CACHE_NAMES)
        yield from _missing(block.attention, "its mask", ("attention_mask",))
        for module in (block.layer, block.attention) if rotary else ():
            if not any(name.startswith(POSITION_TABLES) for name in _parameters(module)):
                yield from _missing(module, "its positions", (POSITION_TABLES,))


def _moved_in_prompt(entry: Any) -> Iterator[str]:
    """What says where a prompt ends, and how large its pictures are; not every model takes it."""
    if not _is_stock(entry):
        return
    if hasattr(entry, "generate"):
        yield from _missing(entry, "labels", ("labels",))
    for name, parameter in _parameters(entry).items():
        # Nothing but the number of logits to keep counts from zero.
        if type(parameter.default) is int and parameter.default == 0 and name not in KEPT_LOGITS:
            yield _renamed(entry, "columns to score", KEPT_LOGITS)
        if "grid" in name and "second" not in name and name not in GRIDS:
            yield _renamed(entry, "sizes of pictures", GRIDS)
    if callable(getattr(entry, "get_rope_index", getattr(getattr(entry, "model", None), "get_rope_index", None))):
        yield from _missing(entry, "sizes of pictures", GRIDS)


def _is_stock(module: Any) -> bool:
    """Whether the code of `module` is transformers' own, whose names are known."""
    return type(module).__module__.startswith("transformers.")


def _missing(module: Any, what: str, names: tuple[str, ...]) -> Iterator[str]:
    """A sentence where `forward` declares none of `names`."""
    parameters = _parameters(module)
    if parameters and not any(name in parameters for name in names):
        yield _renamed(module, what, names)


def _renamed(module: Any, what: str, names: tuple[str, ...]) -> str:
    return (
        f"{type(module).__name__}.forward takes {what} under another name than {_either(names)}; "
        f"it names {_listed(tuple(_parameters(module)))}"
    )


def _parameters(module: Any) -> dict[str, inspect.Parameter]:
    """Named parameters of `forward`; empty where it takes none but `**kwargs`, so that nothing can be told."""
    parameters = dict(list(inspect.signature(type(module).forward).parameters.items())[1:])
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return named if len(named) > 1 or len(named) == len(parameters) else {}


def _kinds_of(blocks: tuple[Block, ...]) -> list[Block]:
    """One block per class of layer and attention: the others have the same code."""
    kinds = {(type(block.layer), type(block.attention)): block for block in blocks}
    return list(kinds.values())


def _output_fields() -> tuple[str, ...]:
    from dataclasses import fields

    from transformers.modeling_outputs import BaseModelOutputWithPast

    return tuple(field.name for field in fields(BaseModelOutputWithPast))


def _cache_layer_methods() -> set[str]:
    from transformers.cache_utils import DynamicLayer

    return set(dir(DynamicLayer))


@once
def _warn_above_tested_range() -> None:
    if _minor(_installed()) > _minor(TESTED[1]):
        warnings.warn(
            f"transformers {_installed()} is newer than what this release of framefusion was tested with "
            f"({TESTED[0]} to {TESTED[1]})",
            stacklevel=5,
        )


def _installed() -> str:
    return versions_of("transformers").get("transformers", "of an unknown release")


def _minor(version: str) -> tuple[int, ...]:
    """(5, 24) of "5.24.1.dev0"; nothing of what is no version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
