"""See the query and key of an attention call, without changing what the call computes.

transformers looks attention functions up by name. For as long as a reduction lives, the decoder's configuration names
an entry of this file that remembers the call's query, key and mask for the reduction and then does what was configured
before. The mask registry gets the same name, since a name missing there silently means "no mask".
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.model.tensor_parallel import averaged, gathered, sharing_heads
from framefusion.engine.sequence.masks import is_block_mask
from framefusion.errors import MissingSignalError
from framefusion.ops.score import attention_map

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "framefusion_"
_lock = threading.Lock()
_users: dict[str, int] = {}


@dataclass(frozen=True)
class AttentionCall:
    """What one attention call was given. query: (B, H, Q, d). key: (B, H_kv, S, d). mask: as the kernel got it.

    module: that made the call. borders: (n + 1,) where sequences begin and end that share a row, None where each row is
    one sequence. window: how many keys up to its own a query sees, where the kernel and not the mask knows it. Under
    tensor parallelism the tensors have this process's heads; what the methods return speaks of all.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    scale: float
    softcap: float | None
    borders: Tensor | None = None
    window: int | None = None

    def rows(self, number: int, last: Tensor, count: int) -> Tensor:
        """(S,) float32: mean attention of `count` query rows up to slot `last` (1,) of batch row `number`."""
        slots = last.to(self.key.device) + torch.arange(1 - count, 1, device=self.key.device)
        # Not picked by comparing numbers: a GPU would have to be waited for.
        share = (slots >= 0) / (slots >= 0).sum()
        found = self._own_map(number, slots.clamp(min=0)).mean(0)
        return averaged(share @ found, self._sharing())

    def sees(self, number: int, slot: Tensor, places: Tensor) -> bool:
        """Whether the query row at `slot` (1,) of batch row `number` sees all keys at `places` (n,)."""
        if self.mask is None and self.window is None:
            return True
        return bool(self._visible(number, slot.to(self.key.device))[0, places].all())

    def map(self, number: int, slots: Tensor) -> Tensor:
        """(H, R, S) float32: attention of the query rows at `slots` (R,) of batch row `number`."""
        return gathered(self._own_map(number, slots), 0, self._sharing())

    def keys(self, number: int, slots: Tensor) -> Tensor:
        """(n, H_kv, d): keys of batch row `number` at `slots` (n,)."""
        return gathered(self.key[number].detach().index_select(1, slots), 0, self._sharing()).transpose(0, 1)

    def _sharing(self) -> Any | None:
        return sharing_heads(self.module, self.query.shape[1])

    def _own_map(self, number: int, slots: Tensor) -> Tensor:
        visible = self._visible(number, slots)
        query = self.query[number].detach().index_select(1, slots)
        return attention_map(query, self.key[number].detach(), visible, self.scale, self.softcap)

    def _visible(self, number: int, slots: Tensor) -> Tensor:
        size = self.key.shape[2]
        at = slots + size - self.query.shape[2]
        distance = at[:, None] - torch.arange(size, device=self.key.device)[None, :]
        causal = distance >= 0
        if self.window is not None:
            causal = causal & (distance < self.window)
        if self.mask is None:
            return causal
        if is_block_mask(self.mask):
            row, everything = slots.new_tensor(number), torch.arange(size, device=slots.device)
            return self.mask.mask_mod(row, row * 0, slots[:, None], everything[None, :])
        if self.mask.ndim == 2:
            return causal & self.mask[number, -size:].to(torch.bool)[None, :]
        mask = self.mask[min(number, self.mask.shape[0] - 1), 0].index_select(0, slots)
        return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def probe(base: str) -> str:
    """Register the observing twin of attention implementation `base`; returns its name."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = PREFIX + base
    with _lock:
        if not _users.get(name):
            ALL_ATTENTION_FUNCTIONS.register(name, _observing(base))
            ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
        _users[name] = _users.get(name, 0) + 1
    return name


def unprobe(name: str) -> None:
    """Forget the twin once its last user is gone."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    with _lock:
        _users[name] -= 1
        if not _users[name]:
            del _users[name]
            ALL_ATTENTION_FUNCTIONS._global_mapping.pop(name, None)
            ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.pop(name, None)


def _observing(base: str) -> Callable:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    flash = is_flash(base)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        observer = context.tower() or context.call()
        if observer is not None:
            scale = kwargs.get("scaling")
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            borders = kwargs.get("cu_seq_lens_q")
            softcap, window = kwargs.get("softcap"), kwargs.get("sliding_window") if flash else None
            seen = AttentionCall(module, query, key, value, attention_mask, scale, softcap, borders, window)
            observer.saw_attention(module, seen)
        function = _eager(module) if base == "eager" else ALL_ATTENTION_FUNCTIONS[base]
        # Flash attention asks the module which kernel to load, by the name in its configuration.
        caller: Any = _Named(module, config=_Named(module.config, _attn_implementation=base)) if flash else module
        return function(caller, query, key, value, attention_mask, **kwargs)

    return attention


def is_flash(implementation: str | None) -> bool:
    """Whether the attention implementation of this name is a flash kernel, as transformers tells them by name."""
    return implementation is not None and "flash" in implementation


class _Named:
    """An object as it is, but for the attributes given."""

    def __init__(self, inner: Any, **own: Any) -> None:
        self._inner = inner
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _eager(module: nn.Module) -> Callable:
    """The plain attention function of the file that defines the attention module."""
    for cls in type(module).__mro__:
        function = getattr(sys.modules.get(cls.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise MissingSignalError(
        f"the attention of {type(module).__name__} cannot be observed",
        "the file that defines it has no eager attention function, and the model was loaded with that implementation",
        "load the model with attn_implementation='sdpa', or use a method that does not read attention",
    )
