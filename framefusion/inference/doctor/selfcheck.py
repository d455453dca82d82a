"""A few seconds with the embedded model: what must be right on every stack is tried on this one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import AlreadyReducedError, FrameFusionError, StaticCacheError

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint

QUESTIONS = ("what changed?", "which way does the red thing move?")
FRAMES = (8, 6)
"""Of the clips of the two prompts: rows of a batch differ in length."""

KEEP, NEW_TOKENS = 0.3, 3
CLOSE = 1e-3
"""Logits of a row alone and in a batch, in float32."""


@dataclass(frozen=True)
class Check:
    """passed: None where it could not be tried. detail: what was seen."""

    name: str
    passed: bool | None
    detail: str
    seconds: float


def run_checks() -> list[Check]:
    """Each check by itself: what one of them raises is its detail."""
    try:
        checkpoint, prompts = _model()
    except Exception as error:
        return [Check("the embedded model loads", False, _told(error), 0.0)]
    return [_tried(name, check, checkpoint, prompts) for name, check in CHECKS.items()]


def _tried(name: str, check: Callable[..., str], checkpoint: Checkpoint, prompts: list[dict[str, Any]]) -> Check:
    started = time.perf_counter()
    try:
        passed, detail = True, check(checkpoint, prompts)
    except Exception as error:
        passed, detail = False, _told(error)
    return Check(name, passed, detail, time.perf_counter() - started)


def _told(error: BaseException) -> str:
    if isinstance(error, FrameFusionError):
        return ": ".join(filter(None, (error.what, error.why)))
    first = next(iter(str(error).strip().splitlines()), "")
    return first if isinstance(error, AssertionError) and first else f"{type(error).__name__}: {first}"


def _model() -> tuple[Checkpoint, list[dict[str, Any]]]:
    import numpy as np

    from framefusion.inference.answer.checkpoint import load_checkpoint
    from framefusion.inference.answer.prompt import build_prompt
    from framefusion.inference.tiny import NAME
    from framefusion.inference.video import Clip

    checkpoint = load_checkpoint(NAME, dtype="float32")
    prompts: list[dict[str, Any]] = []
    for question, count in zip(QUESTIONS, FRAMES, strict=True):
        frames = np.full((count, 112, 112, 3), 70, np.uint8)
        for number, frame in enumerate(frames):
            frame[40:60, 8 * number : 8 * number + 20] = (222, 45, 40)
        times = tuple(number / 8 for number in range(count))
        clip = Clip(frames, times, 8.0, count / 8, count, "drawn", tuple(range(count)))
        prompts.append(build_prompt(checkpoint, clip, question))
    return checkpoint, prompts


def _identity(checkpoint: Checkpoint, prompts: list[dict[str, Any]]) -> str:
    import torch

    for prompt in prompts:
        plain, kept = _logits(checkpoint, prompt, None), _logits(checkpoint, prompt, 1.0)
        assert torch.equal(plain, kept), f"logits differ by {float((plain - kept).abs().max()):.2g}"
    return "logits at keep=1.0 are those of the model, bit for bit"


def _undone(checkpoint: Checkpoint, prompts: list[dict[str, Any]]) -> str:
    import torch

    before = _logits(checkpoint, prompts[0], None)
    reduced = _logits(checkpoint, prompts[0], KEEP)
    assert not torch.equal(before, reduced), f"keep={KEEP} changed nothing"
    assert torch.equal(before, _logits(checkpoint, prompts[0], None)), "the model is another one after a reduction"
    return "the model after a reduction is the one before it, bit for bit"


def _budget(checkpoint: Checkpoint, prompts: list[dict[str, Any]]) -> str:
    from framefusion.inference.answer.answer import ask

    answer = ask(checkpoint, prompts[0], _method(KEEP), NEW_TOKENS)
    wanted = round(KEEP * answer.visual_tokens)
    assert abs(answer.kept_tokens - wanted) <= 1, f"{answer.kept_tokens} of {answer.visual_tokens} tokens are kept"
    return f"keep={KEEP} keeps {answer.kept_tokens} of {answer.visual_tokens} visual tokens through generate"


def _batch(checkpoint: Checkpoint, prompts: list[dict[str, Any]]) -> str:
    together = _generated(checkpoint, _padded(prompts, checkpoint.processor.tokenizer.pad_token_id), KEEP)
    worst = 0.0
    for row, prompt in enumerate(prompts):
        alone = _generated(checkpoint, prompt, KEEP)
        worst = max(worst, *(float((a[0] - b[row]).abs().max()) for a, b in zip(alone, together, strict=True)))
    assert worst <= CLOSE, f"logits of a row alone and in a batch differ by {worst:.2g}"
    return f"rows of a padded batch are what they are alone, within {worst:.1g} in their logits"


def _refusals(checkpoint: Checkpoint, prompts: list[dict[str, Any]]) -> str:
    from framefusion.inference.reduction import reduce

    model = checkpoint.model
    with reduce(model, _method(KEEP)):
        with suppress(AlreadyReducedError):
            reduce(model, _method(KEEP)).remove()
            raise AssertionError("a second reduction of a model is not refused")
        with suppress(StaticCacheError):
            model.generate(**prompts[0], max_new_tokens=1, cache_implementation="static")
            raise AssertionError("a static cache is not refused")
    return "a second reduction and a static cache are refused"


CHECKS: dict[str, Callable[..., str]] = {
    "identity": _identity,
    "undo": _undone,
    "budget": _budget,
    "batch": _batch,
    "refusals": _refusals,
}


def _method(keep: float) -> Any:
    from framefusion.core.registry import RECOMMENDED, configure

    return configure(RECOMMENDED, {"keep": keep})


def _logits(checkpoint: Checkpoint, prompt: dict[str, Any], keep: float | None) -> Any:
    with _reduced(checkpoint, keep) as model:
        return model(**prompt).logits


def _generated(checkpoint: Checkpoint, inputs: dict[str, Any], keep: float) -> list[Any]:
    """(B, V) logits of each new token; the tokens before it are the greedy ones."""
    with _reduced(checkpoint, keep) as model:
        return model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
        ).logits


@contextmanager
def _reduced(checkpoint: Checkpoint, keep: float | None) -> Iterator[Any]:
    """The model, reduced unless `keep` is None, without gradients."""
    import torch

    from framefusion.inference.reduction import reduce

    with torch.no_grad(), nullcontext() if keep is None else reduce(checkpoint.model, _method(keep)):
        yield checkpoint.model


def _padded(prompts: list[dict[str, Any]], pad: int) -> dict[str, Any]:
    """One batch, padded on the left; what belongs to pictures is put one behind the other."""
    import torch

    longest = max(prompt["input_ids"].shape[1] for prompt in prompts)
    batch: dict[str, Any] = {}
    for name in prompts[0]:
        values = [prompt[name] for prompt in prompts]
        if values[0].shape == prompts[0]["input_ids"].shape:
            fill = pad if name == "input_ids" else 0
            values = [torch.nn.functional.pad(one, (longest - one.shape[1], 0), value=fill) for one in values]
        batch[name] = torch.cat(values)
    return batch
