"""Attention in 8 bits as an attention implementation of transformers: SageAttention's kernels, or their arithmetic.

A reduction's scores do not pass through it: they are computed from query rows of their own, which the observing twin of
whatever is configured here sees before it (`engine/attention_observer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import AttentionError, MissingPackageError
from framefusion.engine import attention_names
from framefusion.inference.quantization.emulated import emulated_attention

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.model.parts import ModelParts
    from framefusion.inference.quantization.precision import Precision

PACKAGE = "sageattention"
# Kinds of layers in a transformers configuration that read everything before, or have no attention function.
CAUSAL_KINDS = {"full_attention", "linear_attention"}
# Widths of heads that every release of the kernels takes.
HEAD_WIDTHS = (64, 96, 128)
WIDEST_HEAD = HEAD_WIDTHS[-1]
OLDEST_GPU = (8, 0)
EMULATED = "sage-emulated"
MASKED = "rows of unequal length are padded, and its kernels take no mask"
ALONE = "answer one prompt at a time (--batch 1)"
INSTEAD = f"use --attention {EMULATED}, which computes the same arithmetic on any machine, without the speed"


def install(parts: ModelParts, name: str) -> Callable[[], None]:
    """Let the decoder use attention `name`, "sage" or "sage-emulated"; returns what puts back what was there.

    A reduction may begin before and end after it, or the other way round. Raises MissingPackageError or AttentionError
    where the kernels cannot run on this model and machine, OptionError where attention is in 8 bits already.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = parts.decoder_config
    if name == "sage":
        check_sage(parts)
    ALL_ATTENTION_FUNCTIONS.register(name, _sage if name == "sage" else _emulated)
    # sdpa's masks: None where attention is plainly causal. A name that is missing here would mean "no mask".
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return attention_names.AttentionOverride(config, name, parts.decoder).remove


def check_rows(precisions: Iterable[Precision | None], rows: int) -> None:
    """Raises AttentionError where sage would have to answer several prompts together.

    Rows that a reduction leaves at different lengths are padded, and a mask says so; its kernels take none.
    """
    if rows > 1 and any(one is not None and one.attention == "sage" for one in precisions):
        raise AttentionError(f"sage attention cannot answer {rows} prompts together", MASKED, f"{ALONE}, or {INSTEAD}")


def check_sage(parts: ModelParts) -> None:
    """What the kernels ask of machine and model, before anything runs."""
    weight = next(parts.decoder.parameters())
    if weight.device.type != "cuda":
        raise AttentionError(
            "sage attention needs an NVIDIA GPU", f"the language model is on {weight.device.type}", INSTEAD
        )
    if find_spec(PACKAGE) is None:
        raise MissingPackageError(f"sage attention needs {PACKAGE}", "it is not installed", f"pip install {PACKAGE}")
    capability = torch.cuda.get_device_capability(weight.device)
    if capability < OLDEST_GPU:
        raise AttentionError(
            f"sage attention needs compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]}",
            f"this GPU has {capability[0]}.{capability[1]}",
            INSTEAD,
        )
    check_model(parts, weight.dtype)


def check_model(parts: ModelParts, dtype: torch.dtype) -> None:
    """The limits that lie in the model: type and width of its heads, and attention other than causal."""
    config = parts.decoder_config
    if dtype not in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        raise AttentionError(
            f"sage attention cannot compute in {name}", "its kernels take half precision", "add --dtype bfloat16"
        )
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if width > WIDEST_HEAD:
        raise AttentionError(
            f"sage attention takes heads of at most {WIDEST_HEAD} values", f"this model's have {width}", INSTEAD
        )
    reason = _not_causal(config)
    if reason:
        raise AttentionError("sage attention computes plain causal attention only", reason, INSTEAD)


def _not_causal(config: Any) -> str:
    """Why a decoder's attention is more than causal, or ""."""
    kinds = getattr(config, "layer_types", None) or ()
    other = sorted({kind for kind in kinds if "attention" in kind} - CAUSAL_KINDS)
    window = not kinds and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if other or window:
        named = other[0].replace("_", " ") if other else "sliding attention"
        return f"layers of this model look back through a window or in another way of their own ({named})"
    if getattr(config, "use_bidirectional_attention", None):
        return "this model reads pictures in both directions, with a mask"
    return "this model caps the logits of its attention" if getattr(config, "attn_logit_softcapping", None) else ""


def _sage(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """The kernels for the prompt; sdpa for single tokens and later turns, where there is little to gain."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if query.shape[2] != key.shape[2] or query.shape[2] == 1:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)
    if attention_mask is not None:
        raise AttentionError(
            "sage attention cannot read a prompt with a mask, as of a batch whose rows are padded",
            MASKED,
            f"{ALONE}, or {INSTEAD}",
        )
    import sageattention  # type: ignore[import-not-found]

    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    width, scale = value.shape[-1], kwargs.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    # Zeros behind a head change no product; not every release of the kernels adds them itself.
    missing = next(size for size in HEAD_WIDTHS if size >= width) - width
    states = (torch.nn.functional.pad(part, (0, missing)) for part in (query, key, value))
    found = sageattention.sageattn(*states, tensor_layout="HND", is_causal=causal, sm_scale=scale)
    return found[..., :width].transpose(1, 2).contiguous(), None


def _emulated(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Every call, with any mask, so that a study on a CPU has an 8-bit column."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    causal = causal and attention_mask is None and query.shape[2] > 1
    found = emulated_attention(query, key, value, attention_mask, kwargs.get("scaling"), causal)
    return found.transpose(1, 2).contiguous(), None
