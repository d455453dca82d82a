"""The one call: `reduce(model, method)` and the handle it returns."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import AlreadyReducedError, OptionError
from framefusion.core.learned import Planned
from framefusion.core.method import PROPORTIONAL, Method
from framefusion.core.options import Count, checked
from framefusion.core.registry import family_of_config
from framefusion.inference.report import Report

if TYPE_CHECKING:
    from torch import nn

    from framefusion.core.layout import Layout
    from framefusion.engine.engine import Engine

# The engine, not the reduction: hooks keep it alive for as long as they sit in the model, whoever holds the handle.
_reduced: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Engine]] = weakref.WeakKeyDictionary()


class Reduction:
    """A method at work in a model, made by `reduce`. Use it as a context manager, or call `remove()`.

    `report` says what the prompts so far saved and cost, `method` is the method with every option filled in for this
    model.

    Args:
        model: as for `reduce`.
        method: as for `reduce`.
        layout: as for `reduce`.
        pictures_are_frames: as for `reduce`.
        processor: as for `reduce`.
        tower_frames: as for `reduce`.
        proportional_attention: as for `reduce`.

    Raises:
        FrameFusionError: as `reduce` does.

    Example:
        >>> reduction = ff.reduce(model, ff.FrameFusion(cost=0.3))
        >>> reduction.active
        True
        >>> reduction.remove()
        >>> reduction.active
        False
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        layout: Layout | None = None,
        pictures_are_frames: bool = False,
        processor: Any = None,
        tower_frames: int | None = None,
        proportional_attention: bool | None = None,
    ) -> None:
        from framefusion.engine.engine import Engine
        from framefusion.engine.model.parts import find_parts
        from framefusion.engine.model.releases import check_release
        from framefusion.engine.model.shape import shape_of

        if not isinstance(method, Method):
            raise OptionError(
                f"reduce needs a method, got {type(method).__name__}",
                hint="write framefusion.reduce(model, framefusion.FrameFusion(cost=0.3))",
            )
        tower_frames = checked("tower_frames", Count | None, tower_frames, "leave it out to encode all frames at once")
        parts = find_parts(model)
        check_release(parts)
        family = family_of_config(parts.config)
        weighs = checked(PROPORTIONAL, bool | None, proportional_attention)
        self.method = method.for_family(family) if weighs is None else method.with_weight(weighs).for_family(family)
        self.method.check_model(shape_of(parts, family))
        weighs = self.method.weighs if weighs is None else weighs
        self.report = Report(repr(self.method), method.notes(family), self.method.stage_names())
        self._decoder = weakref.ref(parts.decoder)  # a handle that is kept keeps no model
        reads = family.with_pictures_as_frames(pictures_are_frames)
        self._engine: Engine | None = Engine(
            parts, self.method, reads, layout, self.report.add, weighs, processor, tower_frames
        )
        _claim(parts.decoder, self._engine)
        try:
            self._engine.attach()
        except BaseException:
            _release(parts.decoder)
            raise

    @property
    def active(self) -> bool:
        """Whether the model is still reduced."""
        return self._engine is not None

    @property
    def owner(self) -> object:
        """What caches read under it are owned by; another reduction's cannot be read."""
        return None if self._engine is None else self._engine.owner

    def planned(self) -> tuple[list[Planned], list[int]]:
        """Every plan of the latest prompt as it was applied, and the visual tokens that each row brought."""
        last = self.report.last
        plans = [Planned(one.point.layer, one.row, one.plan) for one in self.report.decisions]
        return plans, [] if last is None else last.visual_tokens

    def remove(self) -> None:
        """Restore the model exactly. Safe to call again."""
        if self._engine is not None:
            self._engine.detach()
            self._engine = None
            decoder = self._decoder()
            if decoder is not None:
                _release(decoder)

    def __enter__(self) -> Reduction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Reduction({self.method!r}, {'active' if self.active else 'removed'})"


def reduce(
    model: nn.Module,
    method: Method,
    *,
    layout: Layout | None = None,
    pictures_are_frames: bool = False,
    processor: Any = None,
    tower_frames: int | None = None,
    proportional_attention: bool | None = None,
) -> Reduction:
    """Let `model` read fewer visual tokens until the returned reduction is removed.

    Args:
        model: a transformers vision-language model, also inside PEFT or with accelerate's hooks, or a bare text
            decoder.
        method: what to keep, e.g. `FrameFusion(cost=0.3)`.
        layout: where the visual tokens are, needed only when the model is fed `inputs_embeds` and cannot tell.
        pictures_are_frames: neighbouring pictures of one size are the frames of a clip, which is how a clip is shown to
            a family without video input. Otherwise pictures are stills, and nothing is merged from one into another.
        processor: that made the inputs, for methods that read pixels: it says how these were normalised. None takes
            what the published checkpoints of the family say.
        tower_frames: frames of video that the vision tower works on at a time, so that its peak memory does not grow
            with the clip; None works on all at once.
        proportional_attention: whether a merged token counts in attention as often as it has originals: log(size) is
            added to its logits in every decoder layer behind the merge. None takes the method's option.

    Returns:
        The reduction, at work. It restores the model at the end of a `with` block or by `remove()`.

    Raises:
        OptionError: `method` is no method.
        UnsupportedModelError: the model has no shape that can be reduced.
        UnsupportedReleaseError: the installed transformers carries what a reduction reads under another name.
        CompiledModelError: the model is compiled.
        AlreadyReducedError: another reduction is at work in it.

    Example:
        >>> with ff.reduce(model, ff.FrameFusion(cost=0.3)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> f"{reduction.report.cost:.2f}"
        '0.30'
    """
    return Reduction(model, method, layout, pictures_are_frames, processor, tower_frames, proportional_attention)


def reduce_clips(
    model: nn.Module,
    method: Method,
    processor: Any = None,
    tower_frames: int | None = None,
    proportional_attention: bool | None = None,
) -> Reduction:
    """`reduce` for prompts that show clips: of a family without video input, pictures are their frames."""
    from framefusion.engine.model.parts import find_parts

    config = find_parts(model).config
    frames = family_of_config(config).takes_clips_as_pictures(config)
    return reduce(
        model,
        method,
        pictures_are_frames=frames,
        processor=processor,
        tower_frames=tower_frames,
        proportional_attention=proportional_attention,
    )


def _claim(decoder: nn.Module, engine: Engine) -> None:
    current = _reduced.get(decoder)
    if current is not None and current() is not None:
        raise AlreadyReducedError(
            f"{type(decoder).__name__} is reduced already",
            "two reductions would count each other's tokens",
            "call `.remove()` on the first one, or leave its `with` block",
        )
    _reduced[decoder] = weakref.ref(engine)


def _release(decoder: nn.Module) -> None:
    _reduced.pop(decoder, None)
