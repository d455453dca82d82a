"""How far the attention of a layer reaches: over the whole prompt, or over a window or chunk of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framefusion.errors import MissingSignalError

if TYPE_CHECKING:
    from framefusion.engine.attention_observer import AttentionCall
    from framefusion.method import Point

KINDS = ("layer_types", "layers_block_type")
FULL = ("full_attention", "attention")
WINDOWS = ("sliding_window", "attention_chunk_size")


def may_hide(call: AttentionCall, layer: int, layers: int) -> bool:
    """Whether the attention of `layer` may not reach the whole prompt, by the model's configuration."""
    return layer not in full_layers(call.module.config, layers)


def full_layers(config: Any, layers: int) -> list[int]:
    """Numbers of the layers that reach the whole prompt for sure. layers: how many there are."""
    named = next((kinds for kinds in (getattr(config, name, None) for name in KINDS) if kinds), None)
    if named is not None:
        return [number for number, kind in enumerate(named[:layers]) if kind in FULL]
    return [] if any(getattr(config, name, None) for name in WINDOWS) else list(range(layers))


def hidden_tokens(point: Point, call: AttentionCall, layer: int, layers: int) -> MissingSignalError:
    """The error of a stage that asks for scores at `point`, where `layer` does not see what they are about."""
    behind = [number + 1 for number in full_layers(call.module.config, layers) if number + 1 < layers]
    nearest = sorted(behind, key=lambda number: (abs(number - layer - 1), -number))
    hint = "no layer reaches that far: take fewer frames, or a method that reads no attention, such as DivPrune"
    if nearest:
        others = ", ".join(map(str, sorted(nearest[1:5])))
        hint = f"act before layer {nearest[0]}{f' (or {others})' if others else ''}, behind one that reaches all of it"
    return MissingSignalError(
        f"the attention of layer {layer}, which scores tokens {point}, does not reach all visual tokens",
        "it looks back over a window or a chunk of the prompt, and what lies outside would score zero",
        hint,
    )
