"""Attributes that a reduction replaces, and copies of the model without them: the dense model, without hooks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

STATE = "__getstate__"
HOOK_TABLES = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")


class Shadows:
    """Attributes replaced on single modules: module, name, and the instance's own value, None where it had none."""

    def __init__(self) -> None:
        self.replaced: list[tuple[nn.Module, str, Any]] = []

    def put(self, module: nn.Module, name: str, value: Any) -> None:
        self.replaced.append((module, name, vars(module).get(name)))
        setattr(module, name, value)

    def restore(self) -> None:
        for module, name, own in self.replaced:
            delattr(module, name)
            if own is not None:
                setattr(module, name, own)
        self.replaced = []


class DenseCopies:
    """Lets `copy` and `pickle` see the modules as they were, until `remove()`.

    A module that carries hooks says what its state is; copying asks the instance for it. handles: of the hooks.
    """

    def __init__(self, model: nn.Module, handles: Iterable[Any], shadows: Shadows) -> None:
        hooks = frozenset(handle.id for handle in handles)
        touched = {id(module) for module, _, _ in shadows.replaced}
        self._told: list[tuple[nn.Module, Any]] = []
        for module in model.modules():
            if id(module) in touched or any(hooks & table.keys() for table in _tables(vars(module)).values()):
                own = [(name, before) for owner, name, before in shadows.replaced if owner is module]
                self._told.append((module, vars(module).get(STATE)))
                vars(module)[STATE] = partial(_dense_state, module, hooks, own, vars(module).get(STATE))

    def remove(self) -> None:
        for module, before in self._told:
            vars(module).pop(STATE, None)
            if before is not None:
                vars(module)[STATE] = before
        self._told = []


def _tables(state: dict[str, Any]) -> dict[str, dict[int, Any]]:
    return {name: value for name, value in state.items() if name.endswith(HOOK_TABLES) and isinstance(value, dict)}


def _dense_state(module: Any, hooks: frozenset[int], shadowed: list[tuple[str, Any]], before: Any) -> Any:
    """The state of `module` without the hooks and names of a reduction. before: the instance's own `__getstate__`."""
    get_state: Any = type(module).__getstate__
    state = before() if before is not None else get_state(module)
    if not isinstance(state, dict):
        return state
    state = {name: value for name, value in state.items() if name != STATE}
    for name, table in _tables(state).items():
        state[name] = type(table)((number, hook) for number, hook in table.items() if number not in hooks)
    for name, own in shadowed:
        state.pop(name, None)
        if own is not None:
            state[name] = own
    return state
