"""Several streams side by side: their windows, and questions to them, are read as the rows of one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.core.options import Count, checked
from framefusion.inference.stream.session import VideoStream, answer_options
from framefusion.inference.stream.status import StreamAnswer

if TYPE_CHECKING:
    from torch import nn

    from framefusion.inference.stream.prompt import Frames


class StreamBatch:
    """Streams that a model watches together, each equal to the stream alone. Use it as a context manager.

    Windows are read in one pass where they have the same number of columns, which those of cameras of one size and rate
    have, and by themselves where they do not.

    Args:
        model: as for `framefusion.stream`.
        processor: as for `framefusion.stream`.
        count: number of streams.
        options: for each of them, as for `framefusion.stream`, except `resume`.

    Raises:
        FrameFusionError: as `framefusion.stream` does.
    """

    def __init__(self, model: nn.Module, processor: Any, count: int, **options: Any) -> None:
        count = checked("count", Count, count, "give the number of streams")
        self.streams = tuple(VideoStream(model, processor, **options) for _ in range(count))
        self._watching = self.streams[0]._watching

    def feed(self, frames: Sequence[Any], seconds: Sequence[Any]) -> None:
        """Show every stream its next frames: one entry per stream of each, as `VideoStream.feed` takes them."""
        self._check(frames, "frames")
        self._check(seconds, "seconds")
        new = [stream._watched.checked(*given) for stream, *given in zip(self.streams, frames, seconds, strict=True)]
        self._read_all([stream._watched.windows(*given) for stream, given in zip(self.streams, new, strict=True)])

    def flush(self) -> None:
        """Read the frames of every stream that wait for good, though they fill no window or are recent."""
        self._read_all([stream._watched.taken() for stream in self.streams])

    def ask(self, questions: str | Sequence[str], *, max_new_tokens: int = 32, **options: Any) -> list[StreamAnswer]:
        """An answer of every stream, to one question or to one of each."""
        asked = [questions] * len(self.streams) if isinstance(questions, str) else questions
        self._check(asked, "questions")
        settings = answer_options(options, max_new_tokens)
        read = self._watching.after, self._watching.alone
        states = [stream._watched.present(*read) for stream in self.streams]
        answers = self._watching.answers(states, asked, settings)
        seconds = [stream._watched.seconds for stream in self.streams]
        return [StreamAnswer(text, at, read) for (text, read), at in zip(answers, seconds, strict=True)]

    def close(self) -> None:
        """Forget everything. Safe to call again."""
        for stream in self.streams:
            stream.close()

    def __enter__(self) -> StreamBatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_all(self, coming: Sequence[Iterator[Frames]]) -> None:
        """What comes of every stream, window by window."""
        windows = [next(own, None) for own in coming]
        while any(own is not None for own in windows):
            self._read(windows)
            windows = [next(own, None) for own in coming]

    def _read(self, windows: Sequence[Frames | None]) -> None:
        """The next window of every stream that has one."""
        pairs = [(s._watched, own) for s, own in zip(self.streams, windows, strict=True) if own is not None]
        if not pairs:
            return
        with ExitStack() as stack:
            for watched, own in pairs:
                stack.enter_context(watched.reading(own))
            states = self._watching.all_after([watched.state for watched, _ in pairs], [own for _, own in pairs])
        for (watched, _), state in zip(pairs, states, strict=True):
            watched.state = state

    def _check(self, given: Sequence[Any], what: str) -> None:
        if len(given) != len(self.streams):
            raise OptionError(
                f"{len(self.streams)} streams got {what} for {len(given)}", hint="give one entry per stream"
            )
