"""Models whose shape leaves no place for a shorter prompt, each with its reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

ENCODER_DECODER = "it is an encoder-decoder: visual tokens are read through cross-attention, not as part of the prompt"
PREPENDED = "it puts its pictures in front of the prompt by itself, which has no placeholders for them"
ACTIONS = "it writes no text: an action expert reads the cache of its language model, one entry per prompt column"
NO_LAYERS = "its decoder has no list of layers"
READS_NO_PROMPT = "its decoder does not read the prompt: another part of the model encodes it"
CROSSES = "its decoder reads pictures through cross-attention, not as part of the prompt"
EARLIER_STATES = "its layers read the states of earlier layers once more, at the prompt's full length"
BY_PLACE = "its attention measures distances by place in the cache, so survivors could not keep their positions"
CHOSEN_EARLIER = "its layers read the keys that an earlier layer chose, numbered as in the whole prompt"
PRUNES = "its own `video_pruning_rate` takes tokens out of the prompt before the decoder sees it; set it to 0"
APART = "its cache keeps prompt and answer apart, each with a length of its own"

Test = Callable[[Any, Any, Sequence[str]], bool]


def why_not(model: Any, decoder: Any, kinds: Sequence[str]) -> str:
    """Why `model` cannot be reduced, "" if nothing is known against it.

    kinds: what each layer of its decoder is, by the configuration; empty if it has no list of layers.
    """
    return next((reason for reason, holds in SHAPES if holds(model, decoder, kinds)), "")


def _is_encoder_decoder(model: Any, decoder: Any, kinds: Sequence[str]) -> bool:
    configs = (getattr(model, "config", None), getattr(decoder, "config", None))
    return any(getattr(config, "is_encoder_decoder", False) for config in configs)


def _crosses(model: Any, decoder: Any, kinds: Sequence[str]) -> bool:
    return any(
        "CrossAttention" in type(module).__name__ or hasattr(module, "crossattention") for module in decoder.modules()
    )


def _takes(module: Any, name: str) -> bool:
    return name in inspect.signature(type(module).forward).parameters


SHAPES: Sequence[tuple[str, Test]] = (
    (ENCODER_DECODER, _is_encoder_decoder),
    (CROSSES, _crosses),
    (ACTIONS, lambda model, decoder, kinds: _takes(model, "actions")),
    (PREPENDED, lambda model, decoder, kinds: not kinds and _takes(decoder, "pixel_values")),
    (NO_LAYERS, lambda model, decoder, kinds: not kinds),
    (READS_NO_PROMPT, lambda model, decoder, kinds: not _takes(decoder, "inputs_embeds")),
    (EARLIER_STATES, lambda model, decoder, kinds: any(_takes(layer, "block_states") for layer in decoder.layers)),
    (BY_PLACE, lambda model, decoder, kinds: any(hasattr(part, "rel_logits_proj") for part in decoder.modules())),
    (
        CHOSEN_EARLIER,
        lambda model, decoder, kinds: any(getattr(part, "skip_topk", False) for part in decoder.modules()),
    ),
    (PRUNES, lambda model, decoder, kinds: any(getattr(part, "video_pruning_rate", 0) for part in model.modules())),
    (APART, lambda model, decoder, kinds: "reference_sliding_attention" in kinds),
)
"""Reasons and what they are known by, the plainest first."""
