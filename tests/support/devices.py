"""Several pretend devices on one CPU: every tensor has a place, and no operation may mix places.

`cpu:1` and `cpu:2` play the accelerators, plain `cpu` the host. A tensor changes its place by `.to` alone, so code that
forgets one fails as it would on two GPUs. As there, the host's scalars and indices may be used anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

HOST = torch.device("cpu")
FIRST, SECOND = torch.device("cpu", 1), torch.device("cpu", 2)
INDEXING = {"__getitem__", "__setitem__", "index_put_", "index_put"}
COPYING = {"copy_", "_has_compatible_shallow_copy_type"}


class MixedDevices(RuntimeError):
    """An operation was given tensors of different places."""


def place_of(tensor: torch.Tensor) -> torch.device:
    return getattr(tensor, "_place", HOST)


class PretendDevices(TorchFunctionMode):
    """While entered, `.device`, `.to`, `.cpu` and `device=` speak of places, and mixing them is an error."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        # Properties arrive as the getter or setter of their descriptor.
        owner = getattr(func, "__self__", None)
        if name == "__get__" and owner is torch.Tensor.device:
            return place_of(args[0])
        if name == "__set__":
            func(*args, **kwargs)
            args[0]._place = place_of(args[1])
            return None
        if name in ("to", "cpu") and isinstance(args[0], torch.Tensor):
            return _moved(func, name, args, kwargs)
        wanted = kwargs.pop("device", None)
        place = _common_place(func, name, args, kwargs)
        if name in ("tensor", "as_tensor") and wanted is None and isinstance(args[0], torch.Tensor):
            place = place_of(args[0])
        result = func(*args, **kwargs)
        return _placed(result, place if wanted is None else torch.device(wanted))


def _moved(func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
    tensor, others = args[0], args[1:]
    if name == "cpu":
        target, result = HOST, tensor
    elif others and isinstance(others[0], torch.Tensor):
        target, result = place_of(others[0]), func(tensor, others[0].dtype)
    else:
        device, dtype, _, _ = torch._C._nn._parse_to(*others, **{k: v for k, v in kwargs.items() if k != "copy"})
        target = place_of(tensor) if device is None else device
        result = tensor if dtype is None else func(tensor, dtype)
    if target == place_of(tensor) and result is tensor:
        return tensor
    moved = result.clone() if result is tensor else result
    moved._place = target  # type: ignore[attr-defined]
    return moved


def _common_place(func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> torch.device:
    tensors = list(_tensors((args, kwargs)))
    if name in COPYING:
        return place_of(tensors[0])
    if name in INDEXING and tensors and place_of(tensors[0]) != HOST:
        tensors = [t for n, t in enumerate(tensors) if n == 0 or place_of(t) != HOST or t.is_floating_point()]
    places = {place_of(t) for t in tensors if t.ndim or place_of(t) != HOST}
    if len(places) > 1:
        shapes = ", ".join(f"{tuple(t.shape)} on {place_of(t)}" for t in tensors)
        raise MixedDevices(f"{resolve_name(func) or name} got {shapes}")
    return places.pop() if places else HOST


def _placed(result: Any, place: torch.device) -> Any:
    for tensor in _tensors(result):
        tensor._place = place  # type: ignore[attr-defined]
    return result


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
