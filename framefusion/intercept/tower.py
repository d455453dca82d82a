"""Watch the vision tower: keep the attention calls of its last layers, and what goes into the projector."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import MissingSignalError
from framefusion.intercept import active, scores
from framefusion.intercept.tower_merge import TowerMerge

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.intercept.features import FeatureStage
    from framefusion.intercept.scores import AttentionCall
    from framefusion.plan import Plan
    from framefusion.stage import InTower

TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder")
PROJECTORS = ("multi_modal_projector", "connector", "merger")
WATCHED_LAYERS = 2


@dataclass
class TowerCall:
    """One run of the tower.

    grouped: patches that make one token stand next to each other and pictures follow one another in one sequence.
    layers: attention calls of its last layers, the last one at the end; a layer may be called once per picture.
    projected: what went into the projector. head: the pooling head and its input, where the tower has one.
    order: token that each group of patches belongs to, None when they are in order. plans: what a feature stage decided
    for each picture in front of the projector or inside the tower, None where none acted. merging: state of a stage
    that acts inside the tower.
    """

    grouped: bool
    layers: list[list[AttentionCall]] = field(default_factory=list)
    projected: Tensor | None = None
    head: tuple[Any, Tensor] | None = None
    order: Tensor | None = None
    plans: list[Plan] | None = None
    merging: Any = None
    _modules: list[int] = field(default_factory=list)

    def saw_attention(self, module: nn.Module, call: AttentionCall) -> None:
        if not self._modules or self._modules[-1] != id(module):
            self._modules = [*self._modules, id(module)][-WATCHED_LAYERS:]
            self.layers = [*self.layers, []][-WATCHED_LAYERS:]
        self.layers[-1].append(call)


class Tower:
    """Hooks on the tower of one model. base: the module that holds tower and projector."""

    def __init__(self, base: nn.Module) -> None:
        children = dict(base.named_children())
        self.module: Any = next((children[name] for name in TOWERS if name in children), None)
        if self.module is None:
            raise MissingSignalError(
                f"{type(base).__name__} has no vision tower to look into",
                hint="choose a method that does not need one; `framefusion methods` lists what each needs",
            )
        inner = dict(self.module.named_children())
        self.projector: Any = next((part[n] for n in PROJECTORS for part in (children, inner) if n in part), None)
        layer = getattr(getattr(base, "config", None), "vision_feature_layer", -1)
        self.feature_layer: int = layer if isinstance(layer, int) and layer < 0 else -1
        self._configs: list[tuple[Any, Any, str]] = []

    def attach(self, stage: FeatureStage | None, inside: InTower | None) -> Iterator[Any]:
        """Register hooks and observers; yields handles. stage: in front of the projector. inside: in every block."""
        yield self.module.register_forward_pre_hook(self._opening, with_kwargs=True)
        if inside is not None:
            yield from TowerMerge(inside, self.module, self.feature_layer).attach()
        yield self.module.register_forward_hook(self._closing, always_call=True)
        if self.projector is not None:
            yield self.projector.register_forward_pre_hook(self._projecting)
            if stage is not None:
                yield self.projector.register_forward_pre_hook(stage.before_projector)
        for module in self.module.modules():
            if hasattr(module, "probe") and hasattr(module, "attention"):
                yield module.register_forward_pre_hook(self._pooling)
        configs = {id(module.config): module.config for module in self.module.modules() if hasattr(module, "config")}
        for config in configs.values():
            implementation = config._attn_implementation_internal
            name = scores.probe(implementation or "eager")
            self._configs.append((config, implementation, name))
            config._attn_implementation_internal = name

    def detach(self) -> None:
        for config, implementation, name in self._configs:
            config._attn_implementation_internal = implementation
            scores.unprobe(name)
        self._configs = []

    def _opening(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        grid = kwargs.get("grid_thw")
        active.enter_tower(TowerCall(grouped=grid is not None, order=_window_order(module, grid)))

    def _closing(self, module: nn.Module, args: tuple, output: Any) -> None:
        active.leave_tower()

    def _projecting(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if active.tower_calls():
            active.tower_calls()[-1].projected = args[0].detach()

    def _pooling(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        call = active.tower()
        if call is not None:
            call.head = (module, args[0].detach())


def _window_order(module: Any, grid: Tensor | None) -> Tensor | None:
    """Qwen2.5-VL's tower works on tokens sorted by window; where each of them belongs."""
    find = getattr(sys.modules[type(module).__module__], "get_vision_window_index", None)
    if grid is None or find is None:
        return None
    sizes = {name: getattr(module, name) for name in ("spatial_merge_size", "window_size", "patch_size")}
    return torch.as_tensor(find(grid, **sizes, kwargs={})[0])
