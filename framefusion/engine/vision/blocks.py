"""Run a stage inside the vision tower: its blocks see fewer and fewer patches, its output has all of them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import UnsupportedPointError
from framefusion.core.layout import MARKER, Geometry
from framefusion.core.method import after_attention
from framefusion.core.plan import Plan
from framefusion.engine import context
from framefusion.engine.vision.signals import early_signals
from framefusion.models.layout_rules import flat_frames

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.stage import VisionStage


@dataclass
class MergeState:
    """State of one tower run over U pictures of P patches, class token included.

    home: (U, P) slot that stands for each patch. size: (U, K) patches each slot carries. keep: (U, K) patch whose place
    each slot has. homes: `home` after each block.
    """

    home: Tensor
    size: Tensor
    keep: Tensor
    geometry: Geometry
    homes: list[Tensor] = field(default_factory=list)

    @staticmethod
    def begin(pictures: int, patches: int, device: torch.device) -> MergeState:
        place = torch.arange(patches, device=device).expand(pictures, patches)
        geometry = _geometry(patches)
        size = torch.ones(pictures, patches, device=device)
        return MergeState(place, size, place, geometry.to(device))

    def expanded(self, number: int, hidden: Tensor) -> Tensor:
        """InputHooks `number` of the tower's hidden states; 0 is the input of its first block."""
        if number == 0 or not self.homes or hidden.shape[1] == self.home.shape[1]:
            return hidden
        return self.expand(hidden, self.homes[min(number, len(self.homes)) - 1])

    def expand(self, hidden: Tensor, home: Tensor) -> Tensor:
        """(U, K, C) -> (U, P, C)."""
        return hidden.gather(1, home.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))


def _geometry(patches: int) -> Geometry:
    """A square grid, behind a class token where one patch more than a square was encoded."""
    side = round((patches - 1) ** 0.5)
    if side * side != patches - 1:
        return flat_frames(1, patches)
    minus = torch.full((1,), -1)
    class_token = Geometry(minus * 0 + MARKER, minus * 0, minus * 0, minus, minus, minus)
    return Geometry.cat([class_token, Geometry.grid(1, side, side)])


class BlockHooks:
    """Hooks of one stage on one tower.

    feature_layer: layer whose output the projector gets, counted from the end; blocks behind it do not merge.
    """

    def __init__(self, stage: VisionStage, tower: nn.Module, feature_layer: int) -> None:
        self.stage = stage
        self.tower = tower
        blocks = _blocks(tower)
        self.blocks = blocks[: len(blocks) + feature_layer + 1]

    def attach(self) -> Iterator[Any]:
        for number, block in enumerate(self.blocks):
            yield block.register_forward_pre_hook(self._before_block(number), with_kwargs=True)
            yield block.layer_norm2.register_forward_pre_hook(self._before_mlp(number))
        yield self.tower.register_forward_hook(self._after_tower)

    def _before_block(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            run = context.tower()
            if run is None:
                return None
            if run.grouped:
                raise _no_blocks(self.tower)
            hidden = args[0] if args else kwargs["hidden_states"]
            if number == 0:
                run.merging = MergeState.begin(hidden.shape[0], hidden.shape[1], hidden.device)
            size = run.merging.size
            if not bool((size > 1).any()):
                return None
            weight = size.log().to(hidden.dtype)[:, None, None, :]
            return args[:1], {**kwargs, "attention_mask": weight}

        return hook

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
            key = run.layers[-1][-1].of_all_heads().key
            residual.data = self._merge(number, run.merging, residual, key)
            run.merging.homes.append(run.merging.home)

        return hook

    def _merge(self, number: int, state: MergeState, hidden: Tensor, key: Tensor) -> Tensor:
        plans = [self._plan(number, state, hidden, key, picture) for picture in range(hidden.shape[0])]
        if any(plan.kept != plans[0].kept for plan in plans):
            raise UnsupportedPointError("a stage inside the tower must keep as many patches of every picture")
        state.home = torch.stack([plan.owner for plan in plans]).gather(1, state.home)
        state.size = torch.stack([plan.sizes(size) for plan, size in zip(plans, state.size, strict=True)])
        short = torch.stack([plan.apply(states) for plan, states in zip(plans, hidden, strict=True)])
        state.keep = state.keep.gather(1, torch.stack([plan.keep for plan in plans]))
        return short

    def _plan(self, number: int, state: MergeState, hidden: Tensor, key: Tensor, picture: int) -> Plan:
        signals = early_signals(
            "inside the vision tower",
            after_attention(number),
            state.geometry[state.keep[picture]],
            state.size[picture],
            lambda: hidden[picture],
            keys=lambda: key[picture].transpose(0, 1),
        )
        patches = int((state.geometry.kind != MARKER).sum())
        return self.stage.decide(signals, number, len(self.blocks), patches)

    def _after_tower(self, module: nn.Module, args: tuple, output: Any) -> Any:
        """Spread the features over all patches again, and note which of them stand for others."""
        run = context.tower()
        state = None if run is None else run.merging
        if run is None or state is None:
            return None
        output.last_hidden_state = state.expand(output.last_hidden_state, state.home)
        if getattr(output, "hidden_states", None) is not None:
            output.hidden_states = tuple(
                states if states is None else state.expanded(number, states)
                for number, states in enumerate(output.hidden_states)
            )
        run.acted.append((self.stage, [_plan_of(state, picture) for picture in range(state.home.shape[0])]))
        run.merging = None
        return output


def _plan_of(state: MergeState, picture: int) -> Plan:
    """What merged into what over the whole tower, class token left out."""
    first = int((state.geometry.kind == MARKER).sum())
    keep = state.keep[picture][first:] - first
    return Plan(state.home.shape[1] - first, keep, state.home[picture][first:] - first)


def _blocks(tower: nn.Module) -> list[Any]:
    """Encoder blocks of CLIP and SigLIP: attention, then `layer_norm2` on the residual, then the MLP."""
    for module in tower.modules():
        layers = getattr(module, "layers", None)
        if layers is not None and all(hasattr(layer, "layer_norm2") for layer in layers):
            return list(layers)
    raise _no_blocks(tower)


def _no_blocks(tower: nn.Module) -> UnsupportedPointError:
    return UnsupportedPointError(
        f"{type(tower).__name__} has no blocks to merge in",
        "patches merge inside towers in the style of CLIP and SigLIP that see one picture at a time",
        "choose a method that acts behind the tower; `framefusion methods` lists them",
    )
