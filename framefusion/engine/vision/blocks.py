"""Run a stage inside the vision tower: its blocks see fewer and fewer patches, all behind them sees the whole grid.

The tower's own forward runs untouched. What its blocks are called with is cut to the rows that are left, and what a
merger reads, or whatever else stands behind the last block, is spread over all rows again: a merger joins squares of
neighbouring patches, so it needs every one of them at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import UnsupportedPointError
from framefusion.core.method import after_attention, before
from framefusion.core.plan import Plan
from framefusion.engine import context
from framefusion.engine.model.calls import change_returned, change_states, hidden_in, with_hidden
from framefusion.engine.vision.inside import MOST_IN_FRONT, Inside, flat
from framefusion.engine.vision.signals import early_signals
from framefusion.engine.vision.tower_blocks import lists_of_blocks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.method import Point
    from framefusion.core.stage import VisionStage
    from framefusion.engine.vision.run import TowerRun

NORMS = ("layer_norm2", "norm2", "layernorm_after")
"""What stands between attention and MLP, by name: it reads the residual itself."""
MASK = "attention_mask"


class BlockHooks:
    """Hooks of one stage on one tower.

    feature_layer: layer whose output the projector gets, counted from the end; the stage does not act behind it.
    """

    def __init__(self, stage: VisionStage, tower: nn.Module, feature_layer: int) -> None:
        self.stage, self.tower = stage, tower
        self.blocks, self.norms = _blocks(tower)
        self.acting = len(self.blocks) + feature_layer + 1

    def attach(self) -> Iterator[Any]:
        for number, (block, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            yield block.register_forward_pre_hook(self._before_block(number), with_kwargs=True)
            yield norm.register_forward_pre_hook(self._before_mlp(number))
        yield self.blocks[-1].register_forward_hook(self._after_blocks)
        for part in self.tower.children():
            if isinstance(part, torch.nn.ModuleList) and part[0] is not self.blocks[0]:
                for merger in part:
                    yield merger.register_forward_pre_hook(self._before_merger)
        yield self.tower.register_forward_hook(self._after_tower)

    def _before_block(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            run = context.tower()
            if run is None:
                return None
            hidden = hidden_in(args, kwargs)
            state = self._state(run, number, hidden)
            run.rows = None
            if self.stage.place == "before" and number < self.acting:
                acted = self._act(before(number), state, hidden)
                hidden = hidden if acted is None else acted
            state.keys, state.entered = [], flat(hidden)
            if not state.left.short:
                return None
            state.reads_all = state.whole > 0
            if state.reads_all:
                state.whole -= 1
                hidden = state.left.expand(hidden)
            else:
                run.rows, kwargs = state.left, self._cut(state, kwargs)
            return with_hidden(args, kwargs, hidden)

        return hook

    def _state(self, run: TowerRun, number: int, hidden: Any) -> Inside:
        if number == 0:
            if not isinstance(hidden, torch.Tensor) or hidden.ndim != (2 if run.grouped else 3):
                raise self._refused("its blocks do not work on the patches of whole pictures")
            grouped = None
            if run.grouped:
                grouped = run.pictures if run.window is None else run.pictures[run.window.first : run.window.last]
            run.merging = Inside.begin(hidden, grouped, run.class_token)
        state = run.merging
        if state is None or hidden.shape[:-1].numel() != state.left.keep.numel():
            raise self._refused("its blocks are handed other rows than the block before has left")
        return state

    def _cut(self, state: Inside, kwargs: dict[str, Any]) -> dict[str, Any]:
        batch = state.left.batch
        if batch is not None:
            for name, value in kwargs.items():
                if name not in (MASK, "hidden_states") and _has_rows(value, batch[1]):
                    raise self._refused(f"its blocks are handed `{name}` for every patch of a picture")
        return state.left.arguments(kwargs, self._refused)

    def _before_mlp(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            run, residual = context.tower(), args[0]
            if run is None or run.merging is None:
                return
            if torch.is_grad_enabled() and residual.requires_grad:
                raise UnsupportedPointError(
                    "patches cannot merge inside the vision tower under autograd",
                    "its blocks would have to change the shape of tensors the backward pass needs",
                    "run under torch.no_grad(), or freeze the tower",
                )
            state = run.merging
            read, every = state.counts()
            if state.reads_all:
                read, state.reads_all = every, False
                residual.data = state.shaped(flat(residual).index_select(0, state.left.keep))
            elif self.stage.place == "after_attention" and number < self.acting:
                acted = self._act(after_attention(number), state, residual)
                if acted is not None:
                    residual.data = acted
            state.left.end_block()
            run.worked(number, read, state.counts()[0], every)

        return hook

    def _act(self, point: Point, state: Inside, hidden: Tensor) -> Tensor | None:
        """Hidden states of the rows that the stage leaves; None where it leaves all."""
        states = flat(hidden)
        known: dict[str, Any] = {}
        if point == after_attention(point.layer):
            if not state.keys:
                raise self._refused("its attention does not go through transformers' attention interface")
            known["keys"] = state.all_keys() if "keys" in self.stage.needs else states
        if state.entered is not None and state.entered.shape == states.shape:
            known["entered"] = state.entered
        made = [self._plan(point, state, number, states, known) for number in range(len(state.geometries))]
        if all(plan is None or plan.kept == plan.count for plan in made):
            return None
        plans = [
            Plan.identity(count, states.device) if plan is None else plan
            for plan, count in zip(made, state.left.counts, strict=True)
        ]
        if state.left.batch is not None and len({plan.kept for plan in plans}) > 1:
            raise UnsupportedPointError("a stage inside the tower must keep as many patches of every picture")
        if self.stage.neighbours:
            state.whole = self.stage.whole(len(self.blocks))
        return state.shaped(state.left.take(plans, states, self.stage.neighbours))

    def _plan(self, point: Point, state: Inside, number: int, states: Tensor, known: dict[str, Any]) -> Plan | None:
        slots, left = state.left.slots()[number], state.left
        geometry = state.geometries[number]
        start = sum(left.pictures[:number])
        signals = early_signals(
            "inside the vision tower",
            point,
            geometry[left.keep[slots] - start],
            left.size[slots],
            lambda: states[slots],
            **{name: partial(values.__getitem__, slots) for name, values in known.items()},
        )
        return self.stage.decide(signals, point.layer, self.acting, state.patches()[number])

    def _before_merger(self, module: nn.Module, args: tuple) -> tuple | None:
        run = context.tower()
        if run is None or run.merging is None or not args:
            return None
        return (run.merging.left.expand(args[0]), *args[1:])

    def _after_blocks(self, module: nn.Module, args: tuple, output: Any) -> Any:
        run = context.tower()
        if run is None or run.merging is None:
            return None
        run.rows = None
        return change_returned(output, run.merging.left.expand)

    def _after_tower(self, module: nn.Module, args: tuple, output: Any) -> Any:
        run = context.tower()
        if run is not None and not run.windowed:
            self.finish(run, output)
        return output

    def finish(self, run: TowerRun, output: Any) -> None:
        """Spread the hidden states of a window over all patches, and note which of them stand for others."""
        state = run.merging
        if state is None:
            return
        change_states(output, lambda number, states: state.after(number - 1, states))
        if not self.stage.neighbours:
            run.act(self.stage, state.plans())
        run.merging = None

    def _refused(self, why: str) -> UnsupportedPointError:
        return _no_blocks(self.tower, why)


def _has_rows(value: Any, rows: int) -> bool:
    """Whether a tensor has one for each patch, or for each token of a picture."""
    if isinstance(value, tuple | list):
        return any(_has_rows(part, rows) for part in value)
    return isinstance(value, torch.Tensor) and any(rows - MOST_IN_FRONT < size <= rows for size in value.shape[:-1])


def _blocks(tower: nn.Module) -> tuple[list[Any], list[Any]]:
    """The blocks, and the norm that each has between attention and MLP."""
    for blocks in lists_of_blocks(tower):
        norms = [next((getattr(block, name) for name in NORMS if hasattr(block, name)), None) for block in blocks]
        if all(norm is not None for norm in norms):
            return blocks, norms
    raise _no_blocks(tower, "none of its lists of blocks has a norm between attention and MLP that is known")


def _no_blocks(tower: nn.Module, why: str) -> UnsupportedPointError:
    return UnsupportedPointError(
        f"{type(tower).__name__} has no blocks to merge in",
        why,
        "choose a method that acts behind the tower; `framefusion methods` lists them",
    )
