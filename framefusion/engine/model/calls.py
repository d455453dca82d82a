"""What modules are called with and return: by name, and with other hidden states in place of theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.releases import HIDDEN

if TYPE_CHECKING:
    from torch import Tensor, nn


def parameters_of(module: nn.Module) -> list[str]:
    """Names of what the `forward` of a module takes, in order."""
    return list(inspect.signature(type(module).forward).parameters)[1:]


def by_name(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a call passes, all of it by name."""
    return {**dict(zip(names, args, strict=False)), **kwargs}


def first_tensor(args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """What a module is called with first, by position or by name."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)


def hidden_in(args: tuple, kwargs: dict[str, Any]) -> Any:
    """The hidden states a layer or block is called with."""
    return args[0] if args else kwargs[HIDDEN]


def with_hidden(args: tuple, kwargs: dict[str, Any], hidden: Any) -> tuple[tuple, dict[str, Any]]:
    """The call of a layer or block on other hidden states."""
    return ((hidden, *args[1:]), kwargs) if args else ((), {**kwargs, HIDDEN: hidden})


def change_returned(output: Any, change: Callable[[Any], Any]) -> Any:
    """What a layer or block returns, its hidden states changed."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def change_states(output: Any, change: Callable[[int, Tensor], Tensor]) -> None:
    """Change the hidden states that the output of a model collected, each by its number; 0 entered the first layer."""
    states = getattr(output, HIDDEN, None)
    if states is not None:
        changed = (state if state is None else change(number, state) for number, state in enumerate(states))
        output.hidden_states = tuple(changed)
