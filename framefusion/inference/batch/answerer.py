"""What a worker is: a loaded model that turns tasks into rows, whatever the videos are like."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import CheckpointError, VideoTooLargeError
from framefusion.inference.answer.foreign import is_memory
from framefusion.inference.batch.job import Job, Task
from framefusion.inference.batch.rows import NAMES, Row, failed

if TYPE_CHECKING:
    from framefusion.inference.video import Clip


class Answerer:
    """A model in memory. device: instead of the job's.

    broken: the device reported an error after which nothing on it can be trusted; only a new process helps.

    Raises CheckpointError, or what the method says of the model.
    """

    def __init__(self, job: Job, device: str | None = None) -> None:
        from framefusion.inference.answer.checkpoint import load_checkpoint

        self.job = job
        self.settings = json.dumps(job.settings(), sort_keys=True)
        self.broken = False
        try:
            self.checkpoint = load_checkpoint(
                job.model, job.dtype, device or job.device, trust_remote_code=job.trust_remote_code
            )
        except CheckpointError as error:
            if error.__cause__ is None or not is_memory(error.__cause__):
                raise
            raise CheckpointError(error.what, error.why, "fewer --workers need less memory") from error
        from framefusion.inference.answer.frame_size import ProcessorResize

        self.resize = ProcessorResize.of(self.checkpoint)
        self.method = None if job.method is None else job.method.for_family(self.checkpoint.family)

    def rows(self, task: Task) -> Iterator[Row]:
        """One row per question, as soon as it is known."""
        from framefusion.inference.media import load_media

        started = time.perf_counter()
        try:
            clip = load_media(task.path, self.job.reading, self.resize)
        except Exception as error:
            yield from (failed(task.path, question, error, self.settings) for question in task.questions)
            return
        video_ms = (time.perf_counter() - started) * 1e3
        for question in task.questions:
            try:
                yield self._answer(task.path, clip, question, video_ms)
            except Exception as error:
                yield failed(task.path, question, self._recovered(error, task.path), self.settings)

    def _answer(self, path: str, clip: Clip, question: str, video_ms: float) -> Row:
        from framefusion.inference.answer.answer import ask
        from framefusion.inference.answer.prompt import build_prompt

        inputs = build_prompt(self.checkpoint, clip, question)
        answer = ask(self.checkpoint, inputs, self.method, self.job.max_new_tokens)
        numbers: dict[str, Any] = {
            field.name: getattr(answer, field.name) for field in fields(answer) if field.name in NAMES
        }
        return Row(
            path=path,
            question=question,
            answer=answer.text,
            damaged=clip.damaged,
            frames=len(clip.frames),
            total_frames=clip.total_frames,
            duration_s=clip.duration,
            video_ms=video_ms,
            settings=self.settings,
            **numbers,
        )

    def _recovered(self, error: Exception, path: str) -> Exception:
        """The error to report, after making room for the next clip."""
        import torch

        self.broken = self.broken or isinstance(error, getattr(torch, "AcceleratorError", ()))
        if not is_memory(error):
            return error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return VideoTooLargeError(
            f"{path} does not fit into memory", _text(error), "ask for fewer --frames, or a smaller --cost"
        )


def _text(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
