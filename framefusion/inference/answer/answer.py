"""Ask a model, dense or reduced, and measure what it took."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from framefusion.engine.model.cache_names import cache_of
from framefusion.inference.answer.fault import fault_of_checkpoint
from framefusion.inference.answer.memory import peak_bytes, reset_peak
from framefusion.inference.answer.prompt import Prompt, takes_video
from framefusion.inference.answer.split import VisionTimes, vision_times
from framefusion.inference.quantization.cache import generation_options
from framefusion.inference.quantization.memory import cache_bytes
from framefusion.inference.reduction import reduce
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.report import Report


# With fewer weights a call takes as long as Python needs to make it, whatever the model reads.
TIMED_WEIGHTS = 100_000_000
# One answer of one path, whatever a checkpoint's generation_config.json prefers.
GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1}


@dataclass(frozen=True)
class Answer:
    """One answer and its price.

    prompt_tokens, visual_tokens: columns of the prompt, and those of them that are pictures. kept_tokens: visual tokens
    alive after the last layer. kept_fraction, cost: see the report. new_tokens: generated. prefill_ms: from the call of
    `generate` to the first token, vision tower included. decode_ms: mean time of each further token. kv_bytes: what the
    cache holds at the end, scales included; of a simulated width, what it stands for. peak_bytes: highest memory of the
    run, None where it cannot be measured. tower_ms, projector_ms: their part of the prefill, None where none ran.
    """

    text: str
    prompt_tokens: int
    visual_tokens: int
    kept_tokens: int
    kept_fraction: float
    cost: float
    new_tokens: int
    prefill_ms: float
    decode_ms: float
    kv_bytes: float
    peak_bytes: int | None
    report: Report | None = None
    tower_ms: float | None = None
    projector_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "report"}
        return numbers | {"report": self.report.to_dict() if self.report is not None else None}


class Stopwatch:
    """A stopping criterion that never stops: it notes when each token was there."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.times: list[float] = []

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


@dataclass(frozen=True)
class Generated:
    """What one call of `generate` gave and took.

    output: as transformers returns it. started: time of the call; times: of each token, for the whole batch. peak:
    highest memory in bytes, None where it cannot be measured. vision: times of tower and projector.
    """

    output: Any
    started: float
    times: list[float]
    peak: int | None
    report: Report | None
    vision: VisionTimes

    @property
    def prefill_ms(self) -> float:
        return (self.times[0] - self.started) * 1e3

    @property
    def total_ms(self) -> float:
        return (self.times[-1] - self.started) * 1e3


def generate(
    checkpoint: Checkpoint, inputs: dict[str, Any], method: Method | None, max_new_tokens: int, **options: Any
) -> Generated:
    """Greedy answers to a batch of prompts. method: None runs the model as it is. options: for transformers.

    Raises CheckpointError where the model cannot answer these prompts without a reduction either.
    """
    try:
        return _generated(checkpoint, inputs, method, max_new_tokens, options)
    except Exception as error:
        fault = fault_of_checkpoint(checkpoint, inputs, max_new_tokens, error)
        if fault is None:
            raise
        raise fault from error


def _generated(
    checkpoint: Checkpoint, inputs: dict[str, Any], method: Method | None, max_new_tokens: int, options: dict[str, Any]
) -> Generated:
    import torch
    from transformers import StoppingCriteriaList

    model = checkpoint.model
    options |= generation_options(model, checkpoint.precision)
    frames = inputs.pictures_are_frames if isinstance(inputs, Prompt) else not takes_video(checkpoint)
    processor = checkpoint.processor
    reduction = reduce(model, method, pictures_are_frames=frames, processor=processor) if method is not None else None
    watch = Stopwatch(model.device)
    reset_peak(model.device)
    with reduction if reduction is not None else nullcontext(), torch.no_grad(), vision_times(model) as vision:
        started = time.perf_counter()
        output = model.generate(
            **inputs,
            **GREEDY,
            max_new_tokens=max_new_tokens,
            return_dict_in_generate=True,
            stopping_criteria=StoppingCriteriaList([watch]),
            **options,
        )
        peak = peak_bytes(model.device)
    return Generated(output, started, watch.times, peak, None if reduction is None else reduction.report, vision)


def ask(
    checkpoint: Checkpoint,
    inputs: dict[str, Any],
    method: Method | None,
    max_new_tokens: int = 64,
    streamer: Any = None,
) -> Answer:
    """Greedy answer to one prompt. method: None runs the model as it is."""
    done = generate(checkpoint, inputs, method, max_new_tokens, streamer=streamer)
    ids, times, report = inputs["input_ids"], done.times, done.report
    new = done.output.sequences[0, ids.shape[1] :]
    visual = sum(int((ids == token).sum()) for token in placeholder_ids(checkpoint.model.config))
    return Answer(
        text=checkpoint.processor.tokenizer.decode(new, skip_special_tokens=True).strip(),
        prompt_tokens=ids.shape[1],
        visual_tokens=visual,
        kept_tokens=visual if report is None else report.kept_tokens,
        kept_fraction=1.0 if report is None else report.kept_fraction,
        cost=1.0 if report is None else report.cost,
        new_tokens=new.numel(),
        prefill_ms=done.prefill_ms,
        decode_ms=(times[-1] - times[0]) * 1e3 / (len(times) - 1) if len(times) > 1 else 0.0,
        kv_bytes=cache_bytes(cache_of(done.output)),
        peak_bytes=done.peak,
        report=report,
        tower_ms=done.vision.tower_ms,
        projector_ms=done.vision.projector_ms,
    )


def warm_up(checkpoint: Checkpoint, inputs: dict[str, Any], method: Method | None) -> None:
    """One short run that is not counted, so that the first measured one pays for nothing it does not own."""
    ask(checkpoint, inputs, method, max_new_tokens=2)


def shows_times(checkpoint: Checkpoint) -> bool:
    """Whether the model is large enough for times of one prompt to say something about its tokens."""
    return sum(weight.numel() for weight in checkpoint.model.parameters()) >= TIMED_WEIGHTS
