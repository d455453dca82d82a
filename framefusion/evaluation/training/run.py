"""One training: freeze the model, put the reduction in, fit, save, score, and write the card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core.learned import LearnedMethod
from framefusion.evaluation.shared_tower import shared_tower
from framefusion.evaluation.training.adapters import adapted, adapter_of
from framefusion.evaluation.training.card import write_card
from framefusion.evaluation.training.examples import Examples
from framefusion.evaluation.training.result import Training
from framefusion.evaluation.training.score import score
from framefusion.evaluation.training.settings import Settings, check_learns, claim
from framefusion.inference.reducer import load_reducer

if TYPE_CHECKING:
    from torch import nn

    from framefusion.core.method import Method
    from framefusion.evaluation.context import Watcher
    from framefusion.evaluation.training.course import Course
    from framefusion.inference.answer.checkpoint import Checkpoint

ADAPTER = "adapter"


def train(
    checkpoint: Checkpoint,
    method: Method,
    course: Course,
    folder: Path,
    settings: Settings | None = None,
    frames: int = 32,
    watch: Watcher | None = None,
) -> Training:
    """Train `method` for `checkpoint`, or the model's adapters under it; goes on from the state saved in `folder`.

    course: what is learned from. frames: to read of each video. watch: called with (what, steps done, steps in all).

    Raises OptionError for a method with nothing to learn, or a folder with another training.
    """
    settings = settings or Settings()
    tell = watch or (lambda what, done, steps: None)
    check_learns(method, settings.lora)
    what = {"method": method.facts.name, "options": method.options(), "model": checkpoint.name, "data": course.name}
    claim(folder, settings, what)
    method = _fresh(checkpoint, method, settings)
    scores: dict[str, Any] = {}
    with _frozen(checkpoint.model), adapted(checkpoint, settings) as (model, changed):
        trainable, history = _fitted(model, changed, method, course, folder, settings, frames, tell)
        if settings.lora:
            model.save_pretrained(folder / ADAPTER)  # type: ignore[operator]
        if isinstance(method, LearnedMethod):
            method.with_adapter(adapter_of(model)).save(folder, settings.bits)
        elif settings.score:
            scores = score(changed, method, course, settings, frames, tell)
    if isinstance(method, LearnedMethod):
        method = load_reducer(folder)  # scored as it is written
        scores = score(checkpoint, method, course, settings, frames, tell) if settings.score else {}
    done = Training(folder, method, trainable, history, scores)
    write_card(done, what, settings)
    return done


def _fresh(checkpoint: Checkpoint, method: Method, settings: Settings) -> Method:
    from framefusion.engine.model.parts import find_parts
    from framefusion.engine.model.shape import shape_of

    if not isinstance(method, LearnedMethod):
        return method
    parts = find_parts(checkpoint.model)
    fresh = method.untrained(shape_of(parts, checkpoint.family), settings.seed)
    assert fresh.weights is not None
    fresh.weights.module.to(checkpoint.model.device)
    fresh.begin(fresh.weights.module, [block.layer.state_dict() for block in parts.blocks])
    return fresh


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No weight of the model asks for a gradient; afterwards each does as before."""
    before = [(weight, weight.requires_grad) for weight in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for weight, wanted in before:
            weight.requires_grad_(wanted)


def _fitted(
    model: nn.Module,
    checkpoint: Checkpoint,
    method: Method,
    course: Course,
    folder: Path,
    settings: Settings,
    frames: int,
    watch: Watcher,
) -> tuple[int, list[tuple[int, float]]]:
    """Numbers that were trained, and the losses."""
    from framefusion.evaluation.training.trainer import Learner, fit, losses
    from framefusion.inference.reduction import reduce_clips

    with (
        shared_tower(checkpoint.model, most=1),
        reduce_clips(model, method, checkpoint.processor) as reduction,
    ):
        learner = Learner(model, reduction, method)
        trainable = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
        try:
            history = fit(learner, Examples(checkpoint, course, frames), settings, folder, watch)
        finally:
            learner.eval()
    return trainable, losses(history)
