"""transformers' Trainer over what learns: the reducer's module, adapters of the model, or both."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from framefusion.core.cores import usable_cores
from framefusion.core.learned import LearnedMethod
from framefusion.evaluation.training.examples import Remembering

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.training.settings import Settings
    from framefusion.inference.reduction import Reduction

Watcher = Callable[[str, int, int], None]
CHECKPOINTS = "checkpoints"
# What a saved state consists of; the last one is written last.
STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
WARM_UP, CLIP = 0.05, 1.0
LOG = 10


class Learner(nn.Module):
    """What learns, as one module: only that is saved. The model around it is called, but is no part of it.

    model: frozen but for its adapters. reduction: at work in it.
    """

    def __init__(self, model: nn.Module, reduction: Reduction, method: Method) -> None:
        super().__init__()
        self._around = (model, reduction, method)
        if isinstance(method, LearnedMethod) and method.weights is not None:
            self.reducer = method.weights.module
        adapters = {name.replace(".", "/"): weight for name, weight in model.named_parameters() if weight.requires_grad}
        if adapters:
            self.adapters = nn.ParameterDict(adapters)

    def forward(self, **inputs: Any) -> dict[str, torch.Tensor]:
        model, reduction, method = self._around
        loss = model(**inputs, use_cache=False).loss
        own = method.loss(*reduction.planned()) if isinstance(method, LearnedMethod) else None
        return {"loss": loss if own is None else loss + own.to(loss)}


class ReducerTrainer(Trainer):
    """Trainer whose model returns its own loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.remembering = Remembering()

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return model(**self.remembering(inputs))["loss"]


class Progress(TrainerCallback):
    """Tells a watcher how far it is, and ends at the next step when interrupted, with its state saved."""

    def __init__(self, watch: Watcher) -> None:
        self.watch, self.interrupted = watch, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.watch("training", state.global_step, state.max_steps)
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The first interrupt waits for the end of the step; a second one is not held back."""

        def stop(number: int, frame: Any) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        try:
            before = signal.signal(signal.SIGINT, stop)
        except ValueError:  # only the main thread hears signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Lessons(Protocol):
    """What is learned from: inputs of the learner by number, how a batch is made of some, and where it lies.

    ordered: neighbours belong into one batch.
    """

    @property
    def device(self) -> torch.device: ...
    @property
    def ordered(self) -> bool: ...
    @property
    def collate(self) -> Callable[[Sequence[Any]], dict[str, Any]]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Any: ...


def fit(learner: nn.Module, lessons: Lessons, settings: Settings, folder: Path, watch: Watcher) -> list[dict[str, Any]]:
    """Train, from the last saved state in `folder` if there is one. Returns what was logged.

    learner: called with a batch, it returns {"loss": ...}.

    Raises KeyboardInterrupt when it was interrupted; the state is saved then.
    """
    progress = Progress(watch)
    trainer = ReducerTrainer(
        model=learner,
        args=_arguments(settings, folder, lessons),
        train_dataset=lessons,
        data_collator=lessons.collate,
        callbacks=[progress],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.model_accepts_loss_kwargs = False
    with progress.listening():
        trainer.train(resume_from_checkpoint=last_state(folder))
    if progress.interrupted and trainer.state.global_step < settings.steps:
        raise KeyboardInterrupt
    return list(trainer.state.log_history)


def _arguments(settings: Settings, folder: Path, lessons: Lessons) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(WARM_UP * settings.steps),
        weight_decay=0.0,
        max_grad_norm=CLIP,
        logging_steps=LOG,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        use_cpu=lessons.device.type == "cpu",
        train_sampling_strategy="sequential" if lessons.ordered else "random",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        dataloader_num_workers=int(can_prepare_beside(lessons.device)),
        report_to=[],
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # the model lies where it was loaded; copies of what learns would not reach it
    return arguments


def can_prepare_beside(device: torch.device) -> bool:
    """Whether a process of its own can make batches while the model learns: a copy of this one, on another core.

    A copy cannot use the accelerator of its parent.
    """
    return device.type == "cpu" and usable_cores() > 1 and multiprocessing.get_start_method() == "fork"


def last_state(folder: Path) -> str | None:
    """The latest saved state that is whole; what a kill left of another one is passed over."""
    places = (folder / CHECKPOINTS).glob("checkpoint-*")
    whole = [place for place in places if all((place / name).is_file() for name in STATE)]
    latest = max(whole, key=lambda place: int(place.name.rpartition("-")[2]), default=None)
    return None if latest is None else str(latest)


def losses(history: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, loss) as logged."""
    return [(int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry]
