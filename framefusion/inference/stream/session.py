"""A stream of video that a model watches: feed frames, ask questions, save, go on."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

from framefusion.core.errors import OptionError
from framefusion.core.method import Method
from framefusion.core.options import Count, Interval, checked
from framefusion.engine.model.parts import find_parts
from framefusion.inference.stream import tape
from framefusion.inference.stream.budget import Budget
from framefusion.inference.stream.cache import check_layers
from framefusion.inference.stream.packed import width_of
from framefusion.inference.stream.policies import policy_of
from framefusion.inference.stream.positions import Planes
from framefusion.inference.stream.prompt import Frames, PromptWriter
from framefusion.inference.stream.reading import Reader
from framefusion.inference.stream.rotary import Rotary
from framefusion.inference.stream.status import StreamAnswer, StreamStatus
from framefusion.inference.stream.watched import Watched
from framefusion.inference.stream.watching import Watching
from framefusion.inference.stream.window import Collector

if TYPE_CHECKING:
    from os import PathLike

    from torch import nn

    from framefusion.inference.stream.policies import Policy

WINDOW = 16
Span = Annotated[int, Interval("[2, inf)")]
"""Positions of which half may be shared."""
Recent = Annotated[int, Interval("[0, inf)")]


class VideoStream:
    """A stream at work, made by `stream`. Use it as a context manager, or call `close()`.

    Args:
        model: as for `stream`.
        processor: as for `stream`.
        method: as for `stream`.
        memory: as for `stream`.
        policy: as for `stream`.
        window: as for `stream`.
        recent: as for `stream`.
        context: as for `stream`.
        span: as for `stream`.
        quantization: as for `stream`.
        resume: as for `stream`.

    Raises:
        FrameFusionError: as `stream` does.

    Example:
        >>> clip = load_clip("clip.mp4", frames=8)
        >>> with ff.stream(model, checkpoint.processor, memory=256, window=4) as video:
        ...     video.feed(clip.frames, clip.timestamps)
        ...     print(video.status.windows, video.ask("which colour flashed?").seconds)
        2 0.875
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        method: Method | None = None,
        memory: int | str = 4096,
        policy: str | Policy = "infinipot",
        window: int = WINDOW,
        recent: int = 0,
        context: int | None = None,
        span: int | None = None,
        quantization: Any = None,
        resume: str | PathLike[str] | None = None,
    ) -> None:
        parts = find_parts(model)
        check_layers(parts)
        writer, planes = PromptWriter(parts.model, processor), Planes(parts)
        reader = Reader(model, parts, processor, method)
        self._watching = Watching(
            writer,
            reader,
            planes,
            Rotary(parts, planes.count),
            policy_of(policy) if isinstance(policy, str) else policy,
            Budget(memory),
            checked("context", Count | None, context, "give entries of each layer, or None"),
            checked("span", Span | None, span, "give positions, or None"),
            width_of(quantization, parts.model.config),
        )
        self._watched = Watched(collector(window, recent, writer.per_step))
        if resume is not None:
            self._watched.goes_on(*tape.read(resume, parts.model))

    def feed(self, frames: Any, seconds: Any) -> None:
        """Show the stream its next frames; every window that they fill is read.

        Args:
            frames: PIL images, or a uint8 array (T, height, width, 3).
            seconds: one time per frame, from the beginning of the stream; they never go back.

        Raises:
            OptionError: frames that are no pictures, or times that are not one per frame or go back.
        """
        for window in self._watched.windows(*self._watched.checked(frames, seconds)):
            self._read(window)

    def flush(self) -> None:
        """Read the frames that wait for good, though they fill no window or are recent."""
        for window in self._watched.taken():
            self._read(window)

    def ask(self, question: str, *, max_new_tokens: int = 32, **options: Any) -> StreamAnswer:
        """The answer to a question about everything fed so far. The memory stays as it was, bit for bit.

        Args:
            question: in words.
            max_new_tokens: length of the answer at most.
            options: for `generate` of transformers; without any the answer is greedy.

        Raises:
            PromptError: nothing was fed yet, or the processor does not take the question.
        """
        settings = answer_options(options, max_new_tokens)
        state = self._watched.present(self._watching.after, self._watching.alone)
        text, read = self._watching.answer(state, question, settings)
        return StreamAnswer(text, self._watched.seconds, read)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything the stream is to a file, from which `stream(..., resume=path)` goes on.

        Args:
            path: a new file, or a tape to replace.

        Raises:
            OptionError: nothing can be written there, or it holds something else.
        """
        self._watched.check_open()
        tape.write(path, self._watching.reader.parts.model, self._watched)

    def close(self) -> None:
        """Forget everything. Safe to call again."""
        self._watched.close()

    @property
    def status(self) -> StreamStatus:
        """What was seen and what is kept."""
        return self._watched.status

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, frames: Frames) -> None:
        with self._watched.reading(frames):
            self._watched.state = self._watching.after(self._watched.state, frames)


def stream(
    model: nn.Module,
    processor: Any,
    *,
    method: Method | None = None,
    memory: int | str = 4096,
    policy: str | Policy = "infinipot",
    window: int = WINDOW,
    recent: int = 0,
    context: int | None = None,
    span: int | None = None,
    quantization: Any = None,
    resume: str | PathLike[str] | None = None,
) -> VideoStream:
    """Let `model` watch a video of any length in a bounded memory.

    Args:
        model: a transformers vision-language model. It is reduced while it reads, and as it was in between.
        processor: that belongs to it.
        method: what reduces each window in front of the language model; None reads all of it.
        memory: entries of each layer's cache, or bytes of all of it as in "512MiB".
        policy: what stays when that is full, by name or as a `Policy`.
        window: frames that are read at a time.
        recent: newest frames that wait as pictures; questions read them anew, in one piece behind the memory but
            without looking at it, as in a prompt of their own. They come on top of `memory`.
        context: latest entries of each layer that a window is read with, beside the columns in front of the first
            frame; None for all that is kept. Questions read everything in either case.
        span: positions in time that the memory takes while a question is asked: gaps are closed, and where it holds
            more steps than that, the earlier half of the positions is shared; None leaves all where it was.
        quantization: of the memory, as in "kv=int4"; None keeps it as the model makes it.
        resume: a tape that `VideoStream.save` wrote.

    Returns:
        The stream.

    Raises:
        OptionError: an argument that is out of its range.
        UnsupportedModelError: a model whose cache cannot be brought down to a budget.

    Example:
        >>> clip = load_clip("clip.mp4", frames=8)
        >>> with ff.stream(model, checkpoint.processor, memory=256, policy="uniform", window=4, recent=4) as video:
        ...     video.feed(clip.frames, clip.timestamps)
        ...     answer = video.ask("which colour flashed?")
        >>> answer.seconds
        0.875
    """
    return VideoStream(
        model,
        processor,
        method=method,
        memory=memory,
        policy=policy,
        window=window,
        recent=recent,
        context=context,
        span=span,
        quantization=quantization,
        resume=resume,
    )


def collector(window: int, recent: int, per_step: int) -> Collector:
    """What collects frames into windows of whole time steps. Raises OptionError."""
    window = checked("window", Count, window, "give the frames that are read at a time")
    recent = checked("recent", Recent, recent, "give a number of frames, or 0")
    size, newest = (-(-frames // per_step) * per_step for frames in (window, recent))
    return Collector(size, newest, per_step)


def answer_options(options: dict[str, Any], max_new_tokens: int) -> dict[str, Any]:
    """What `generate` is called with. Raises OptionError for answers of several rows."""
    settings = {"do_sample": False, "num_beams": 1, **options, "max_new_tokens": max_new_tokens}
    if settings["num_beams"] != 1 or settings.get("num_return_sequences", 1) != 1:
        raise OptionError(
            "a stream gives one answer, by one beam",
            "its memory is one row, and num_beams or num_return_sequences would read several",
            "leave them out; do_sample and its options work",
        )
    return settings
