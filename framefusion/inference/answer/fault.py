"""Whose fault an error is: that of what a checkpoint holds, or of this package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import CheckpointError, FrameFusionError, LayoutError
from framefusion.inference.answer.foreign import is_memory, reason_of

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint


def fault_of_checkpoint(
    checkpoint: Checkpoint, inputs: Mapping[str, Any], new_tokens: int, error: Exception
) -> CheckpointError | None:
    """What to raise instead of `error`, which stopped an answer; None where it should be seen as it is.

    The stock model answers the same prompt, with no reduction and no cache of ours: if it fails as well, settings,
    weights or processor of the checkpoint do not fit each other.
    """
    import torch

    own = isinstance(error, FrameFusionError) and not isinstance(error, LayoutError)
    if own or is_memory(error) or isinstance(error, getattr(torch, "AcceleratorError", ())):
        return None
    problem = _alone(checkpoint.model, inputs, new_tokens)
    if problem is None or is_memory(problem):
        return None
    return CheckpointError(
        f"the model `{checkpoint.name}` cannot answer",
        f"it fails without a reduction as well: {reason_of(problem)}",
        "its configuration, weights and processor do not fit each other; fetch the checkpoint again",
    )


@contextmanager
def blaming(checkpoint: Checkpoint, prompts: Iterable[Mapping[str, Any]]) -> Iterator[Iterator[Mapping[str, Any]]]:
    """`prompts`, for a block that runs the model on each; raises what `fault_of_checkpoint` makes of the last one."""
    last: list[Mapping[str, Any]] = []

    def remembered() -> Iterator[Mapping[str, Any]]:
        for prompt in prompts:
            last[:] = [prompt]
            yield prompt

    try:
        yield remembered()
    except Exception as error:
        fault = fault_of_checkpoint(checkpoint, last[0], 1, error) if last else None
        if fault is None:
            raise
        raise fault from error


def _alone(model: Any, inputs: Mapping[str, Any], new_tokens: int) -> Exception | None:
    """What the model raises over a prompt, None where it answers."""
    import torch

    try:
        with torch.no_grad():
            model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
    except Exception as problem:
        return problem
    return None
