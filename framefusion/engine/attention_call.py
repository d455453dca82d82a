"""What one attention call was given, and the scores that stages ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.ops.attention import attention_map
from framefusion.engine.model.tensor_parallel import averaged, gathered, sharing_heads
from framefusion.engine.sequence.masks import as_boolean, is_block_mask

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class AttentionCall:
    """What one attention call was given. query: (B, H, Q, d). key: (B, H_kv, S, d). mask: as the kernel got it.

    module: that made the call. borders: (n + 1,) where sequences begin and end that share a row, None where each row is
    one sequence. window: how many keys up to its own a query sees, where the kernel and not the mask knows it. weight:
    (B, S) added to the logits of keys that stand for several tokens, None where none does. Under tensor parallelism the
    tensors have this process's heads; what the methods return speaks of all.
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
    weight: Tensor | None = None

    def rows(self, number: int, last: Tensor, count: int) -> Tensor:
        """(S,) float32: mean attention of `count` query rows up to slot `last` (1,) of batch row `number`."""
        slots = last.to(self.key.device) + torch.arange(1 - count, 1, device=self.key.device)
        # Not picked by comparing numbers: a GPU would have to be waited for.
        share = (slots >= 0) / (slots >= 0).sum()
        weights = self._own_map(number, slots.clamp(min=0)).mean(0)
        return averaged(share @ weights, self._sharing())

    def sees(self, number: int, slot: Tensor, places: Tensor) -> bool:
        """Whether the query row at `slot` (1,) of batch row `number` sees all keys at `places` (n,)."""
        if self.mask is None and self.window is None:
            return True
        return bool(self._visible(number, slot.to(self.key.device))[0, places].all())

    def map(self, number: int, slots: Tensor) -> Tensor:
        """(H, R, S) float32: attention of the query rows at `slots` (R,) of batch row `number`."""
        return gathered(self._own_map(number, slots), 0, self._sharing())

    def mean_logits(
        self, number: int, visual: Tensor, asking: Tensor, places: Tensor, gate: Tensor | None = None
    ) -> Tensor:
        """(2, N) float32 logits of batch row `number`, averaged over heads, before any cap.

        First of the query rows `visual` (N,) over the keys at `places` (N,), each weighed by `gate` (N,), then of those
        keys over the rows `asking`.
        """
        device = self.key.device
        query, key = self.query[number].detach().float(), self.key[number].detach().float()
        key = key.index_select(1, places).repeat_interleave(query.shape[0] // key.shape[0], 0)
        share = torch.ones(len(places), device=device) if gate is None else gate.detach().to(device)
        middle = (key * share[:, None]).sum(1, keepdim=True) / share.sum()
        own = (query.index_select(1, visual.to(device)) * middle).sum(-1)
        cross = (key * query.index_select(1, asking.to(device)).mean(1, keepdim=True)).sum(-1)
        return averaged(torch.stack([own.mean(0), cross.mean(0)]) * self.scale, self._sharing())

    def keys(self, number: int, slots: Tensor) -> Tensor:
        """(n, H_kv, d): keys of batch row `number` at `slots` (n,)."""
        return gathered(self.key[number].detach().index_select(1, slots), 0, self._sharing()).transpose(0, 1)

    def _sharing(self) -> Any | None:
        return sharing_heads(self.module, self.query.shape[1])

    def _own_map(self, number: int, slots: Tensor) -> Tensor:
        visible = self._visible(number, slots)
        query = self.query[number].detach().index_select(1, slots)
        weight = None if self.weight is None else self.weight[number].detach()
        return attention_map(query, self.key[number].detach(), visible, self.scale, self.softcap, weight)

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
        return as_boolean(mask)
