"""Keys and values of few bits: whole numbers packed into bytes, with a least value and a step for every group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from framefusion.core.errors import OptionError
from framefusion.inference.quantization.groups import group_for
from framefusion.inference.quantization.precision import Precision

if TYPE_CHECKING:
    from torch import Tensor

BYTE = 8


@dataclass(frozen=True, eq=False)
class Packed:
    """A tensor (H, S, d) of few bits. Taking entries out of it, or putting some behind it, rounds nothing again.

    codes: (H, S, d * bits / 8) uint8. low, step: (H, S, d / group) in the type of the tensor.
    """

    codes: Tensor
    low: Tensor
    step: Tensor
    bits: int

    @staticmethod
    def of(values: Tensor, bits: int, group: int) -> Packed:
        """`values` (H, S, d), each group of neighbours along d rounded to 2**bits even steps of its own range."""
        parts = values.float().unflatten(-1, (-1, group))
        low, high = parts.amin(-1), parts.amax(-1)
        low = low.to(values.dtype)
        step = ((high - low.float()) / (2**bits - 1)).to(values.dtype)
        scale = step.float().clamp(min=torch.finfo(torch.float32).tiny)
        codes = ((parts - low.float()[..., None]) / scale[..., None]).round().clamp(0, 2**bits - 1)
        codes = codes.flatten(-2).to(torch.uint8)
        each = BYTE // bits
        codes = pad(codes, (0, -codes.shape[-1] % each)).unflatten(-1, (-1, each))
        shifts = torch.arange(0, BYTE, bits, device=values.device, dtype=torch.uint8)
        return Packed((codes << shifts).sum(-1, dtype=torch.uint8), low, step, bits)

    @property
    def width(self) -> int:
        return self.codes.shape[-1] * BYTE // self.bits

    def unpacked(self) -> Tensor:
        """(H, S, d)"""
        shifts = torch.arange(0, BYTE, self.bits, device=self.codes.device, dtype=torch.uint8)
        codes = (self.codes[..., None] >> shifts) & (2**self.bits - 1)
        codes = codes.flatten(-2).unflatten(-1, (self.low.shape[-1], -1))
        return (codes * self.step.float()[..., None] + self.low.float()[..., None]).flatten(-2).to(self.low.dtype)

    def parts(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "low": self.low, "step": self.step}

    def each(self, change: Callable[[Tensor], Tensor]) -> Packed:
        """The same with every tensor changed."""
        return Packed(change(self.codes), change(self.low), change(self.step), self.bits)


@dataclass(frozen=True)
class Width:
    """How wide a memory keeps its numbers. bits: None as the model makes them. group: neighbours that share a step."""

    bits: int | None = None
    group: int = 1

    def packed(self, values: Tensor | Packed) -> Tensor | Packed:
        return values if self.bits is None or isinstance(values, Packed) else Packed.of(values, self.bits, self.group)


def width_of(quantization: Precision | str | None, config: Any) -> Width:
    """Raises OptionError for anything but a cache of whole bits."""
    if quantization is None:
        return Width()
    precision = Precision.parse(quantization) if isinstance(quantization, str) else quantization
    if not isinstance(precision, Precision):
        raise OptionError(f"quantization={quantization!r} is no precision", hint='write quantization="kv=int4"')
    if not (precision.weights.full and precision.activations.full) or precision.attention is not None:
        raise OptionError(
            "a stream quantises its memory alone",
            "weights, activations and attention are the model's",
            'quantise the model before, and write quantization="kv=int4" here',
        )
    if precision.kv.full:
        return Width()
    if precision.kv.simulated:
        raise OptionError(
            f"kv={precision.kv} cannot be the width of a memory",
            "rounded numbers of 16 or 32 bits would save nothing",
            f"write kv=int{precision.kv.bits}",
        )
    bits = precision.kv.bits
    return Width(bits, group_for(config, precision.kv_group, bits, packs_groups=False))


def plain(values: Tensor | Packed) -> Tensor:
    """(H, S, d) as numbers."""
    return values.unpacked() if isinstance(values, Packed) else values


def picked(values: Tensor | Packed, index: Tensor) -> Tensor | Packed:
    """(H, S, d) at (h, K) -> (H, K, d)."""
    return values.each(lambda part: rows(part, index)) if isinstance(values, Packed) else rows(values, index)


def joined(first: Tensor | Packed, second: Tensor | Packed) -> Tensor | Packed:
    """Entries behind others. Of two kinds, the second's is made plain or packed first."""
    if isinstance(first, Packed) and isinstance(second, Packed):
        parts = {name: torch.cat([part, second.parts()[name]], 1) for name, part in first.parts().items()}
        return Packed(parts["codes"], parts["low"], parts["step"], first.bits)
    return torch.cat([plain(first), plain(second)], 1)


def repacked(values: Tensor, like: Tensor | Packed) -> Tensor | Packed:
    """(H, S, d) as wide as `like` is kept."""
    return Packed.of(values, like.bits, like.width // like.low.shape[-1]) if isinstance(like, Packed) else values


def rows(tensor: Tensor, index: Tensor) -> Tensor:
    """(H, S, d) at (h, K) -> (H, K, d)."""
    if index.shape[0] == 1:
        return tensor.index_select(1, index[0])
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[-1]))
