"""Hooks that add a learned reducer's low-rank matrices to linear layers of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.adapter import Adapter


def hook_adapters(model: nn.Module, adapters: Iterable[Adapter]) -> Iterator[Any]:
    """Register all hooks; yields their handles. Raises OptionError for a layer that the model does not have."""
    modules = dict(model.named_modules())
    for adapter in adapters:
        for name in adapter.factors:
            module = modules.get(name)
            _check(name, module, adapter)
            assert module is not None
            yield module.register_forward_hook(_adding(name, adapter))


def _check(name: str, module: nn.Module | None, adapter: Adapter) -> None:
    down, up = adapter.factors[name]
    wanted = up.shape[0], down.shape[1]
    found = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if found != wanted:
        has = "nothing of that name" if module is None else f"{found[1]} to {found[0]}"
        raise OptionError(
            f"the reducer adapts `{name}`, {wanted[1]} to {wanted[0]}",
            f"this model has {has}",
            "load the reducer that was trained for this model",
        )


def _adding(name: str, adapter: Adapter) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return adapter.added(name, args[0], output)

    return hook
