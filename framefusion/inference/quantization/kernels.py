"""Which configuration of torchao does what a precision asks for, on the device at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.inference.quantization.libraries import require

if TYPE_CHECKING:
    import torch

    from framefusion.inference.quantization.precision import Precision

# What the packed 4-bit layout of torchao takes.
PACKED_GROUPS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Kernel:
    """A configuration for `torchao.quantization.quantize_`. note: what a person should know about it, or ""."""

    config: Any
    fast: bool = True
    note: str = ""


def kernel_for(precision: Precision, device: torch.device, dtype: torch.dtype) -> Kernel:
    """Raises MissingPackageError without torchao, OptionError for a group its kernels do not have."""
    require("weights", precision.weights, "torchao", install="'framefusion[quantized]'")
    import torch
    from torchao import quantization as ao

    if precision.weights.bits == 8:
        dynamic = not precision.activations.full
        return Kernel(ao.Int8DynamicActivationInt8WeightConfig() if dynamic else ao.Int8WeightOnlyConfig())
    if precision.activations.full and device.type == "cuda" and dtype == torch.bfloat16:
        if precision.group not in PACKED_GROUPS:
            raise OptionError(
                f"group={precision.group} has no 4-bit kernel", hint=f"use {', '.join(map(str, PACKED_GROUPS))}"
            )
        packing = "tile_packed_to_4d"
        return Kernel(ao.Int4WeightOnlyConfig(group_size=precision.group, int4_packing_format=packing))
    return Kernel(_unpacked(precision), fast=False, note=_why_unpacked(precision, device, dtype))


@contextmanager
def settings_kept() -> Iterator[None]:
    """Puts back what torchao's conversion sets for the whole process: how inductor compiles and float32 multiplies."""
    import torch
    from torch._inductor import config

    before, products = config.get_config_copy(), torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        for name, value in config.get_config_copy().items():
            if value != before[name]:
                setattr(config, name, before[name])
        torch.set_float32_matmul_precision(products)


def _unpacked(precision: Precision) -> Any:
    import torch
    from torchao import quantization as ao

    group = ao.PerGroup(precision.group)
    if precision.activations.full:
        return ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=group)  # type: ignore[attr-defined]
    dtype = torch.int4  # type: ignore[attr-defined]
    return ao.Int8DynamicActivationIntxWeightConfig(weight_dtype=dtype, weight_granularity=group)


def _why_unpacked(precision: Precision, device: torch.device, dtype: torch.dtype) -> str:
    where = f"weights=int4 with {'16' if precision.activations.full else '8'}-bit activations on {device.type}"
    where += f" in {str(dtype).removeprefix('torch.')}"
    return f"torchao has no packed kernel for {where}: each weight takes a byte and nothing gets faster"
