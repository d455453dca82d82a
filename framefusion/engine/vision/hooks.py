"""Watch the vision tower: keep the attention calls of its last layers, and what goes into the projector."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import MissingSignalError
from framefusion.engine import context
from framefusion.engine.attention_names import AttentionTwin
from framefusion.engine.model.calls import by_name, first_tensor, parameters_of
from framefusion.engine.model.parts import find_projector, find_tower, tower_holder
from framefusion.engine.vision.run import TowerRun

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.vision.blocks import BlockHooks
    from framefusion.engine.vision.dedup import PixelHooks
    from framefusion.engine.vision.projector import ProjectorHook

CLASS_TOKENS = ("class_embedding", "cls_token")


class TowerHooks:
    """Hooks on the tower of one model.

    entries: modules that may hold tower and projector, outermost first. in_prompt: () -> whether a prompt is under way;
    pictures encoded at other times are nobody's. in_forward: () -> whether the model itself was called with it already.
    inside: whether a stage acts in its blocks. watched: whether stages ask for signals.
    """

    def __init__(
        self,
        entries: Sequence[nn.Module],
        in_prompt: Callable[[], bool],
        in_forward: Callable[[], bool],
        inside: bool,
        watched: bool,
    ) -> None:
        base = tower_holder(entries)
        if base is None:
            raise MissingSignalError(
                f"{type(entries[0]).__name__ if entries else 'a bare decoder'} has no vision tower to look into",
                hint="choose a method that does not need one; `framefusion methods` lists what each needs",
            )
        self.module: Any = find_tower(entries)
        self.projector: Any = find_projector(entries)
        self.in_prompt, self.in_forward = in_prompt, in_forward
        names = (name.rpartition(".")[-1] for name, _ in self.module.named_parameters())
        self._class_token = any(name in CLASS_TOKENS for name in names)
        self._parameters = parameters_of(self.module)
        layer = getattr(getattr(base, "config", None), "vision_feature_layer", -1)
        self.feature_layer: int = layer if isinstance(layer, int) and layer < 0 else -1
        self._observed: list[AttentionTwin] = []
        self._inside, self._watched = inside, watched

    def attach(self, stage: ProjectorHook | None, acting: BlockHooks | PixelHooks | None) -> Iterator[Any]:
        """Register hooks and observers; yields handles.

        stage: in front of the projector. acting: of what acts in the tower, or in front of it.
        """
        yield self.module.register_forward_pre_hook(self._opening, with_kwargs=True)
        if acting is not None:
            yield from acting.attach()
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
            self._observed.append(AttentionTwin(config))

    def detach(self) -> None:
        for observed in self._observed:
            observed.remove()
        self._observed = []

    def _opening(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        for observed in self._observed:
            observed.renew()
        given = by_name(self._parameters, args, kwargs)
        grid = given.get("grid_thw")
        run = TowerRun(
            class_token=self._class_token, inside=self._inside, per_row=self.in_forward(), watched=self._watched
        )
        if grid is not None:
            run.grouped, run.class_token, run.order = True, False, _window_order(module, grid, kwargs)
            run.pictures = [height * width for frames, height, width in grid.tolist() for _ in range(frames)]
        context.enter_tower(run, remember=self.in_prompt())

    def _closing(self, module: nn.Module, args: tuple, output: Any) -> None:
        context.leave_tower()

    def _projecting(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        features = first_tensor(args, kwargs)
        run = context.tower_runs()[-1] if context.tower_runs() else None
        if run is not None and run.watched and features is not None:
            run.projected = (features if run.rows is None else run.rows.expand(features, "projected")).detach()

    def _pooling(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        run = context.tower()
        if run is not None and run.watched:
            run.head = (module, args[0].detach())


def _window_order(module: Any, grid: Tensor, kwargs: dict[str, Any]) -> Tensor | None:
    """Qwen2.5-VL's tower works on tokens sorted by window; where each of them belongs."""
    find = getattr(sys.modules[type(module).__module__], "get_vision_window_index", None)
    if find is None:
        return None
    sizes = {name: getattr(module, name) for name in ("spatial_merge_size", "window_size", "patch_size")}
    return torch.as_tensor(find(grid, **sizes, kwargs=dict(kwargs))[0])
