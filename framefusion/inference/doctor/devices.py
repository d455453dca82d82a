"""What there is to compute on, and with which kernels it would be done."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Device:
    """name: for `--device`. memory: bytes, None where nothing tells."""

    name: str
    kind: str
    memory: int | None


@dataclass(frozen=True)
class Kernel:
    """For `what`, `used` would be taken. better: what would have to be there for a faster one, or ""."""

    what: str
    used: str
    better: str = ""


def all_devices() -> list[Device]:
    """The CPU first."""
    import torch

    found = [Device("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch", _memory())]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            capability = f"{about.major}.{about.minor}"
            found.append(Device(f"cuda:{number}", f"{about.name}, capability {capability}", about.total_memory))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None))
    return found


def all_kernels() -> list[Kernel]:
    """By default, that is without --attention and --quantize, on the device a command takes."""
    import torch

    gpu, triton = torch.cuda.is_available(), find_spec("triton") is not None
    found = [Kernel("attention", "sdpa, or what the checkpoint names")]
    if gpu and triton:
        found.append(Kernel("merging and similarity", "Triton"))
    else:
        found.append(Kernel("merging and similarity", "torch", "an NVIDIA GPU and triton" if not gpu else "triton"))
    sage = gpu and find_spec("sageattention") is not None
    lacking = "an NVIDIA GPU and sageattention" if not gpu else "sageattention"
    found.append(Kernel("--attention sage", "its kernels" if sage else "refused", "" if sage else lacking))
    torchao = find_spec("torchao") is not None
    used, lacking = ("torchao", "") if torchao else ("refused", "framefusion[quantized]")
    return [*found, Kernel("--quantize weights=int8", used, lacking)]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
