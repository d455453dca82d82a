"""Proportional attention: a merged token counts in a softmax as often as it has originals.

log(size) is added to the logits of its key, as in ToMe (https://arxiv.org/abs/2210.09461, section 3). A kernel with a
mask takes it in the mask. One without a mask takes it in further channels of query and key, whose product is that very
number, and stays causal without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from framefusion.core.errors import AttentionError
from framefusion.engine.sequence.masks import is_block_mask

if TYPE_CHECKING:
    from torch import Tensor

PARTS = 3
"""Channels a weight is spread over: three bfloat16 numbers hold what float32 does."""
WIDTHS = 8
"""Flash kernels take heads of a multiple of this many channels."""
WIDEST_HEAD = 256
INSTEAD = "load the model with attn_implementation='sdpa', or leave out `proportional_attention`"


def attend_weighted(
    base: str,
    flash: bool,
    function: Callable,
    module: Any,
    states: tuple[Tensor, Tensor, Tensor],
    mask: Any,
    **given: Any,
) -> Any:
    """What attention `base`, computed by `function`, returns with the logits of its keys raised by `weight` (B, S).

    flash: whether it is a flash kernel. states: query (B, H, Q, d), key (B, H_kv, S, d) and value. given: the other
    arguments of the call, and `weight`. Raises AttentionError where the kernel has no place for a weight.
    """
    weight = given.pop("weight").to(states[0].device)
    query, key, value = states
    if base == "sage":
        raise AttentionError(
            "sage attention cannot weigh merged tokens",
            "its kernels take no mask, and keys of 8 bits would round the weight",
            "use --attention sage-emulated, or leave out `proportional_attention`",
        )
    blocks = is_block_mask(mask)
    if blocks and given.get("softcap") is not None:
        mask, blocks = _dense(mask), False
    if not (flash or blocks or (base == "sdpa" and mask is None and query.shape[2] > 1)):
        return function(module, *states, _raised(mask, weight, query, base), **given)
    if given.get("softcap") is not None:
        raise AttentionError(
            f"{base} cannot weigh merged tokens of this model",
            "the weight goes into channels of query and key, and the model caps their product",
            INSTEAD.replace("sdpa", "eager"),
        )
    scale = given.get("scaling")
    given["scaling"] = query.shape[-1] ** -0.5 if scale is None else scale
    states = with_channels(query, key, value, weight / given["scaling"])
    if flash and states[0].shape[-1] > WIDEST_HEAD:
        raise AttentionError(
            f"{base} cannot weigh merged tokens of this model",
            f"it takes {PARTS} channels more than the {query.shape[-1]} of a head, the kernels at most {WIDEST_HEAD}",
            INSTEAD,
        )
    output, *others = function(module, *states, mask, **given)
    return (output[..., : value.shape[-1]].contiguous(), *others)


def with_channels(query: Tensor, key: Tensor, value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value with more channels, so that the product of query and key is larger by `weight` (B, S).

    Values as wide as keys stay so, with zeros.
    """
    more = PARTS + -(key.shape[-1] + PARTS) % WIDTHS
    parts, rest = [], weight.detach().to(torch.float32)
    for _ in range(PARTS):
        parts.append(rest.to(torch.bfloat16).to(torch.float32))
        rest = rest - parts[-1]
    if weight.requires_grad:  # of a learned gate; rounded parts would pass rounded gradients on
        parts[0] = parts[0] + (weight - weight.detach())
    columns = pad(torch.stack(parts, -1), (0, more - PARTS)).to(key.dtype)
    columns = columns[:, None].expand(-1, key.shape[1], -1, -1)
    ones = pad(query.new_ones(PARTS), (0, more - PARTS)).expand(*query.shape[:-1], more)
    if value.shape[-1] == key.shape[-1]:
        value = pad(value, (0, more))
    return torch.cat([query, ones], -1), torch.cat([key, columns], -1), value


def _raised(mask: Tensor | None, weight: Tensor, query: Tensor, base: str) -> Tensor:
    """(B, 1 or H, 1 or Q, S) what a kernel adds to its logits, hidden keys included."""
    bias = weight.to(query.dtype)[:, None, None, :]
    length, size = query.shape[2], weight.shape[1]
    if mask is None:
        if length == 1 or base == "eager":
            return bias
        # A kernel that gets no mask is causal by itself.
        mask = torch.ones(length, size, dtype=torch.bool, device=query.device).tril(size - length)
    mask = mask[..., :size]
    if mask.dtype == torch.bool:
        return torch.where(mask, bias, torch.finfo(query.dtype).min)
    return mask + bias.to(mask.dtype)


def _dense(mask: Any) -> Tensor:
    """(B, 1, Q, S) what a mask of flex attention shows."""
    from torch.nn.attention.flex_attention import create_mask

    rows, columns = mask.seq_lengths
    return create_mask(mask.mask_mod, mask.kv_indices.shape[0], 1, rows, columns, device=mask.kv_indices.device)
