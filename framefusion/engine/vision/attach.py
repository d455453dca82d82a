"""What a method's stages need at the vision tower, put there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from framefusion.core.method import before
from framefusion.core.stage import PixelStage, ProjectorStage, VisionStage
from framefusion.engine.vision.blocks import BlockHooks
from framefusion.engine.vision.dedup import PixelHooks
from framefusion.engine.vision.hooks import TowerHooks
from framefusion.engine.vision.projector import ProjectorHook
from framefusion.engine.vision.windows import TowerWindows
from framefusion.models.pixel_range import pixel_range

if TYPE_CHECKING:
    from framefusion.core.method import Stage
    from framefusion.engine.inputs.hooks import InputHooks
    from framefusion.engine.model.copies import Shadows
    from framefusion.engine.model.parts import ModelParts


class Tower:
    """The vision tower of one reduction.

    processor: of the model, or None. frames: of video that the tower works on at a time, None for all.
    """

    def __init__(
        self, parts: ModelParts, stages: Sequence[Stage], inputs: InputHooks, processor: Any, frames: int | None
    ) -> None:
        self.parts, self.stages, self.inputs = parts, stages, inputs
        self.processor, self.frames = processor, frames
        self.inside = next((stage for stage in stages if isinstance(stage, VisionStage)), None)
        self.pixels = next((stage for stage in stages if isinstance(stage, PixelStage)), None)
        watched, asks = any(map(_reads_tower, stages)), (inputs.in_prompt, inputs.in_forward)
        self.hooks = TowerHooks(parts.entries, *asks, self.inside is not None, watched)

    @staticmethod
    def of(
        parts: ModelParts, stages: Sequence[Stage], inputs: InputHooks, processor: Any, frames: int | None
    ) -> Tower | None:
        """None where nobody looks into the tower or acts there."""
        acts = frames is not None or any(
            stage.stream in ("pixels", "vision") or _reads_tower(stage) for stage in stages
        )
        return Tower(parts, stages, inputs, processor, frames) if acts else None

    @property
    def must_run(self) -> bool:
        """Whether a stage acts in it, or in front of it."""
        return self.inside is not None or self.pixels is not None

    def attach(self, shadows: Shadows) -> Iterator[Any]:
        """Register hooks and observers; yields handles. shadows: take the tower's own `forward`."""
        tower, acting = self.hooks.module, self._acting_hooks()
        yield from self.hooks.attach(self._projector_hook(), acting)
        if self.frames is not None:
            windows = TowerWindows(tower, self.frames, None if acting is None else acting.finish)
            shadows.put(tower, "forward", windows.shadowed(tower.forward))

    def detach(self) -> None:
        self.hooks.detach()

    def _acting_hooks(self) -> BlockHooks | PixelHooks | None:
        if self.inside is not None:
            return BlockHooks(self.inside, self.hooks.module, self.hooks.feature_layer)
        if self.pixels is None:
            return None
        known = partial(pixel_range, getattr(self.parts.config, "model_type", ""), self.processor)
        return PixelHooks(self.pixels, self.hooks.module, self.inputs.coming_layout, known)

    def _projector_hook(self) -> ProjectorHook | None:
        """For the first stage there, unless the prompt is reduced before it is this stage's turn."""
        for stage in self.stages:
            if isinstance(stage, ProjectorStage):
                return ProjectorHook(stage, self.inputs.coming_layout)
            if before(0) in stage.points(len(self.parts.blocks)):
                return None
        return None


def _reads_tower(stage: Stage) -> bool:
    return stage.stream == "features" or "vision" in stage.needs
