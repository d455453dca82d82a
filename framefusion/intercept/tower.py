"""Watch the vision tower: keep the attention calls of its last layers, and what goes into the projector."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import MissingSignalError
from framefusion.intercept import active
from framefusion.intercept.implementation import Observed
from framefusion.intercept.shards import gathered, sharing_heads
from framefusion.intercept.tower_merge import TowerMerge

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.intercept.features import FeatureStage
    from framefusion.intercept.scores import AttentionCall
    from framefusion.method import Stage
    from framefusion.plan import Plan
    from framefusion.stage import VisionStage

TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder")
PROJECTORS = ("multi_modal_projector", "connector", "merger")
CLASS_TOKENS = ("class_embedding", "cls_token")
WATCHED_LAYERS = 2


@dataclass(frozen=True)
class TowerAttention:
    """Query and key (pictures, H, P, d) of one attention call, detached, of the heads this process has.

    module: that made the call.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    scale: float

    def of_all_heads(self) -> TowerAttention:
        group = sharing_heads(self.module, self.query.shape[1])
        query, key = (gathered(states, 1, group) for states in (self.query, self.key))
        return TowerAttention(self.module, query, key, self.scale)


@dataclass(eq=False)
class TowerCall:
    """One run of the tower.

    grouped: patches that make one token stand next to each other and pictures follow one another in one sequence.
    pictures: patches of each picture, where grouped. class_token: whether the first token of a picture is one.
    inside: whether a stage acts in its blocks.
    per_row: rows repeated for beams brought their pictures along; False where `generate` encoded before it repeated.
    layers: attention calls of its last layers, the last one at the end; a layer may be called once per picture.
    projected: what went into the projector. head: the pooling head and its input, where the tower has one.
    order: token that each group of patches belongs to, None when they are in order. merging: state of a stage that acts
    inside the tower. acted: stages that acted inside the tower or in front of the projector, with a plan per picture.
    """

    grouped: bool = False
    pictures: list[int] = field(default_factory=list)
    class_token: bool = False
    inside: bool = False
    per_row: bool = True
    layers: list[list[TowerAttention]] = field(default_factory=list)
    projected: Tensor | None = None
    head: tuple[Any, Tensor] | None = None
    order: Tensor | None = None
    merging: Any = None
    acted: list[tuple[Stage, list[Plan]]] = field(default_factory=list)
    _modules: list[int] = field(default_factory=list)

    def plans_of(self, stage: Stage) -> list[Plan] | None:
        """What `stage` decided for each picture before the decoder ran, None if it did not act."""
        return next((plans for acted, plans in self.acted if acted is stage), None)

    def saw_attention(self, module: nn.Module, call: AttentionCall) -> None:
        if not self._modules or self._modules[-1] != id(module):
            self._modules = [*self._modules, id(module)][-WATCHED_LAYERS:]
            self.layers = [*self.layers, []][-WATCHED_LAYERS:]
        query, key = call.query.detach(), call.key.detach()
        # Flash kernels take all sequences at once; the others are called once for each.
        lengths = [query.shape[2]] if call.borders is None else call.borders.diff().tolist()
        for part in zip(query.split(lengths, 2), key.split(lengths, 2), strict=True):
            self.layers[-1].append(TowerAttention(module, *part, call.scale))


class Tower:
    """Hooks on the tower of one model.

    entries: modules that may hold tower and projector, outermost first. in_prompt: () -> whether a prompt is under way;
    pictures encoded at other times are nobody's. in_forward: () -> whether the model itself was called with it already.
    """

    def __init__(
        self, entries: Sequence[nn.Module], in_prompt: Callable[[], bool], in_forward: Callable[[], bool]
    ) -> None:
        base = _holder(entries)
        if base is None:
            raise MissingSignalError(
                f"{type(entries[0]).__name__ if entries else 'a bare decoder'} has no vision tower to look into",
                hint="choose a method that does not need one; `framefusion methods` lists what each needs",
            )
        self.module: Any = find_tower(entries)
        places = (dict(part.named_children()) for part in (base, self.module))
        self.projector: Any = next((part[n] for part in places for n in PROJECTORS if n in part), None)
        self.in_prompt, self.in_forward = in_prompt, in_forward
        names = (name.rpartition(".")[-1] for name, _ in self.module.named_parameters())
        self._class_token = any(name in CLASS_TOKENS for name in names)
        self._parameters = list(inspect.signature(type(self.module).forward).parameters)[1:]
        layer = getattr(getattr(base, "config", None), "vision_feature_layer", -1)
        self.feature_layer: int = layer if isinstance(layer, int) and layer < 0 else -1
        self._observed: list[Observed] = []
        self._inside = False

    def attach(self, stage: FeatureStage | None, inside: VisionStage | None) -> Iterator[Any]:
        """Register hooks and observers; yields handles. stage: in front of the projector. inside: in every block."""
        self._inside = inside is not None
        yield self.module.register_forward_pre_hook(self._opening, with_kwargs=True)
        if inside is not None:
            yield from TowerMerge(inside, self.module, self.feature_layer).attach()
        yield self.module.register_forward_hook(self._closing, always_call=True)
        if self.projector is not None:
            yield self.projector.register_forward_pre_hook(self._projecting, with_kwargs=True)
            if stage is not None:
                yield self.projector.register_forward_pre_hook(stage.before_projector, with_kwargs=True)
        for module in self.module.modules():
            if hasattr(module, "probe") and hasattr(module, "attention"):
                yield module.register_forward_pre_hook(self._pooling)
        configs = {id(module.config): module.config for module in self.module.modules() if hasattr(module, "config")}
        for config in configs.values():
            self._observed.append(Observed(config))

    def detach(self) -> None:
        for observed in self._observed:
            observed.remove()
        self._observed = []

    def _opening(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        for observed in self._observed:
            observed.renew()
        given = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        grid = given.get("grid_thw")
        call = TowerCall(class_token=self._class_token, inside=self._inside, per_row=self.in_forward())
        if grid is not None:
            call.grouped, call.class_token, call.order = True, False, _window_order(module, grid, kwargs)
            call.pictures = [height * width for frames, height, width in grid.tolist() for _ in range(frames)]
        active.enter_tower(call, remember=self.in_prompt())

    def _closing(self, module: nn.Module, args: tuple, output: Any) -> None:
        active.leave_tower()

    def _projecting(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        features = first_input(args, kwargs)
        if active.tower_calls() and features is not None:
            active.tower_calls()[-1].projected = features.detach()

    def _pooling(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        call = active.tower()
        if call is not None:
            call.head = (module, args[0].detach())


def find_tower(entries: Sequence[nn.Module]) -> Any:
    """The vision tower of a model, None where it has none. entries: modules that may hold it, outermost first."""
    base = _holder(entries)
    return next((tower for name in TOWERS if (tower := getattr(base, name, None)) is not None), None)


def _holder(entries: Sequence[nn.Module]) -> nn.Module | None:
    """The innermost module that holds the tower."""
    return next((part for part in reversed(entries) for name in TOWERS if getattr(part, name, None) is not None), None)


def first_input(args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """What a module is called with first, by position or by name."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)


def _window_order(module: Any, grid: Tensor, kwargs: dict[str, Any]) -> Tensor | None:
    """Qwen2.5-VL's tower works on tokens sorted by window; where each of them belongs."""
    find = getattr(sys.modules[type(module).__module__], "get_vision_window_index", None)
    if find is None:
        return None
    sizes = {name: getattr(module, name) for name in ("spatial_merge_size", "window_size", "patch_size")}
    return torch.as_tensor(find(grid, **sizes, kwargs=dict(kwargs))[0])
