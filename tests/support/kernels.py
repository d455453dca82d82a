"""Kernels a CPU does not have or would have to compile, so that the way through transformers to them runs everywhere.

Flash attention is written out plainly behind the two functions its package offers; flex attention runs uncompiled, and
so does quanto.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

FLASH = "flash_attention_2"


def plain_flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    deterministic: bool = False,
) -> Tensor:
    """q: (B, Q, H, d). k, v: (B, S, H_kv, d). The causal rule is aligned at the last query and the last key."""
    repeats = q.shape[2] // k.shape[2]
    k, v = (states.repeat_interleave(repeats, 2) for states in (k, v))
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    scores = torch.einsum("bqhd,bshd->bhqs", q, k) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1] - torch.arange(k.shape[1])[None]
    hidden = torch.zeros_like(distance, dtype=torch.bool)
    if causal:
        hidden |= distance < 0
    if window_size[0] >= 0:
        hidden |= distance > window_size[0]
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("bhqs,bshd->bqhd", weights, v)


def plain_flash_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    deterministic: bool = False,
) -> Tensor:
    """q: (tokens, H, d), sequences one after the other, as `cu_seqlens_q` (n + 1,) borders them; k and v likewise."""
    assert int(cu_seqlens_q[-1]) == q.shape[0] and int(cu_seqlens_k[-1]) == k.shape[0]
    borders = zip(cu_seqlens_q.tolist()[:-1], cu_seqlens_q.tolist()[1:], strict=True)
    key_borders = zip(cu_seqlens_k.tolist()[:-1], cu_seqlens_k.tolist()[1:], strict=True)
    options: dict[str, Any] = {
        "softmax_scale": softmax_scale, "causal": causal, "window_size": window_size, "softcap": softcap
    }  # fmt: skip
    parts = [
        plain_flash(q[None, a:b], k[None, c:d], v[None, c:d], **options)[0]
        for (a, b), (c, d) in zip(borders, key_borders, strict=True)
    ]
    return torch.cat(parts)


def use_plain_flash(patch: pytest.MonkeyPatch) -> None:
    """Let transformers load `plain_flash` where the package is asked for by its name, and nothing by other names."""
    from transformers import modeling_flash_attention_utils as flash

    functions: tuple[Any, ...] = (plain_flash, plain_flash_varlen, flash._pad_input, flash._unpad_input)
    if hasattr(flash, "_flash_with_kvcache_fn"):
        functions = (*functions[:2], None, *functions[2:])

    def imports(implementation: str | None, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        if implementation != FLASH:
            raise ImportError(f"no kernel of the name {implementation}")
        return functions

    patch.setattr(flash, "_lazy_imports", imports)
    patch.setattr(flash, "_loaded_implementation", None)


def use_plain_flex(patch: pytest.MonkeyPatch) -> None:
    """Flex attention without the compiler."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    from transformers import masking_utils
    from transformers.integrations import flex_attention as integration

    def attention(query: Tensor, key: Tensor, value: Tensor, training: bool = False, **options: Any) -> Any:
        return flex_attention(query, key, value, **options)

    def block_mask(*args: Any, _compile: bool = False, **options: Any) -> Any:
        return create_block_mask(*args, **options)

    patch.setattr(integration, "compile_friendly_flex_attention", attention)
    patch.setattr(masking_utils, "create_block_mask", block_mask)


def use_plain_quanto(patch: pytest.MonkeyPatch) -> None:
    """Quanto without its C++ kernels, which it would compile on first use."""
    from optimum.quanto.library.extensions import cpp

    def unpack(packed: Tensor, bits: int) -> Tensor:
        return torch.cat([packed >> shift & 2**bits - 1 for shift in range(0, 8, bits)])

    patch.setattr(cpp.ext, "_lib", SimpleNamespace(unpack=unpack))


def set_attention(model: nn.Module, name: str) -> None:
    """Name the implementation in every configuration, without asking whether the machine has it."""
    for module in model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation_internal = name  # type: ignore[union-attr]
