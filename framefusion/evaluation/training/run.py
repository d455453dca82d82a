"""One training: freeze the model, put the reduction in, fit, save, score, and write the card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from framefusion.core.errors import MissingPackageError
from framefusion.core.learned import LearnedMethod
from framefusion.evaluation.training.card import write_card
from framefusion.evaluation.training.examples import Examples
from framefusion.evaluation.training.result import Training
from framefusion.evaluation.training.score import score
from framefusion.evaluation.training.settings import Settings, check_learns, claim

if TYPE_CHECKING:
    from torch import nn

    from framefusion.core.method import Method
    from framefusion.evaluation.context import Watcher
    from framefusion.evaluation.training.course import Course
    from framefusion.inference.answer.checkpoint import Checkpoint

ADAPTER = "adapter"
# Linear layers of an attention, as nearly all decoders name them.
TARGETS = r".*\b(q_proj|k_proj|v_proj|o_proj)"


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
    with _frozen(checkpoint.model), _adapted(checkpoint, settings) as (model, adapted):
        trainable, history = _fitted(model, adapted, method, course, folder, settings, frames, tell)
        if isinstance(method, LearnedMethod):
            method.save(folder)
        if settings.lora:
            model.save_pretrained(folder / ADAPTER)  # type: ignore[operator]
        scores = score(adapted, method, course, settings, frames, tell) if settings.score else {}
    done = Training(folder, method, trainable, history, scores)
    write_card(done, what, settings)
    return done


def _fresh(checkpoint: Checkpoint, method: Method, settings: Settings) -> Method:
    from framefusion.engine.model.parts import find_parts
    from framefusion.engine.model.shape import shape_of

    if not isinstance(method, LearnedMethod):
        return method
    shape = shape_of(find_parts(checkpoint.model), checkpoint.family)
    fresh = method.untrained(shape, settings.seed)
    assert fresh.weights is not None
    fresh.weights.module.to(checkpoint.model.device)
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


@contextmanager
def _adapted(checkpoint: Checkpoint, settings: Settings) -> Iterator[tuple[nn.Module, Checkpoint]]:
    """The model with adapters, if they are asked for, and the checkpoint that answers with them."""
    from dataclasses import replace

    if not settings.lora:
        yield checkpoint.model, checkpoint
        return
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingPackageError("--lora needs the package peft", hint="pip install 'framefusion[peft]'") from error
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = get_peft_model(checkpoint.model, LoraConfig(r=settings.lora, target_modules=TARGETS))
    try:
        yield model, replace(checkpoint, model=model.get_base_model())
    finally:
        model.unload()


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

    with reduce_clips(model, method, checkpoint.processor) as reduction:
        learner = Learner(model, reduction, method)
        trainable = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
        try:
            history = fit(learner, Examples(checkpoint, course, frames), settings, folder, watch)
        finally:
            learner.eval()
    return trainable, losses(history)
