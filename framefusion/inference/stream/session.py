"""A stream of video that a model watches: feed frames, ask questions, save, go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from framefusion.core.errors import OptionError, PromptError, UnknownNameError
from framefusion.core.method import Method
from framefusion.core.options import Count, checked
from framefusion.engine.model.cache_names import cache_name
from framefusion.engine.model.parts import find_parts
from framefusion.inference.stream import budget
from framefusion.inference.stream.cache import cache_over, check_layers, grown
from framefusion.inference.stream.memory import Memory
from framefusion.inference.stream.policies import POLICIES
from framefusion.inference.stream.positions import Clock, Planes
from framefusion.inference.stream.prompt import Columns, Frames, PromptWriter
from framefusion.inference.stream.reading import Places, Reader
from framefusion.inference.stream.status import StreamAnswer, StreamStatus
from framefusion.inference.stream.window import Collector, arrays, times

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor, nn

    from framefusion.inference.stream.policies import Policy

WINDOW = 16


@dataclass(frozen=True, eq=False)
class State:
    """What a stream is, apart from frames that wait: everything a tape holds.

    closing: (1, n, D) embeddings that close the clip and are read with each question. last: size and time of the last
    step, without its pictures.
    """

    memory: Memory
    clock: Clock
    closing: Tensor | None = None
    last: Frames | None = None
    begin: float = 0.0
    windows: int = 0
    steps: int = 0
    columns: int = 0


class VideoStream:
    """A stream at work, made by `stream`. Use it as a context manager, or call `close()`.

    Args:
        model: as for `stream`.
        processor: as for `stream`.
        method: as for `stream`.
        memory: as for `stream`.
        policy: as for `stream`.
        window: as for `stream`.
        quantization: as for `stream`.
        resume: as for `stream`.

    Raises:
        FrameFusionError: as `stream` does.

    Example:
        >>> with ff.stream(model, processor, memory=256, policy="uniform") as video:
        ...     video.feed(frames, seconds)
        ...     answer = video.ask("what happens?")
        >>> video.status.windows
        1
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        method: Method | None = None,
        memory: int | str = 4096,
        policy: str | Policy = "window",
        window: int = WINDOW,
        quantization: Any = None,
        resume: str | PathLike[str] | None = None,
    ) -> None:
        parts = find_parts(model)
        check_layers(parts)
        self._tokens, self._bytes = budget.parse(memory)
        self._policy = policy_of(policy)
        self._writer = PromptWriter(parts.model, processor)
        self._reader = Reader(model, parts, processor, method)
        self._planes = Planes(parts)
        size = checked("window", Count, window)
        self._waiting = Collector(-(-size // self._writer.per_step) * self._writer.per_step)
        self._state = State(Memory({}, {}), Clock())
        self._frames, self._seconds = 0, 0.0
        self._last_window = 0.0
        self._open = True

    def feed(self, frames: Any, seconds: Any) -> None:
        """Show the stream its next frames; every window that they fill is read.

        Args:
            frames: PIL images, or a uint8 array (T, height, width, 3).
            seconds: one time per frame, from the beginning of the stream; they never go back.

        Raises:
            OptionError: frames that are no pictures, or times that are not one per frame or go back.
        """
        self._check_open()
        pictures = arrays(frames)
        given = times(seconds, len(pictures), self._seconds if self._frames else None)
        for picture, second in zip(pictures, given, strict=True):
            if not self._frames:
                self._state = replace(self._state, begin=second)
            self._frames, self._seconds = self._frames + 1, second
            for window in self._waiting.add([picture], [second]):
                self._read(window)

    def flush(self) -> None:
        """Read the frames that wait, though they fill no window."""
        self._check_open()
        if len(self._waiting):
            self._read(self._waiting.take())

    def ask(self, question: str, *, max_new_tokens: int = 32, **options: Any) -> StreamAnswer:
        """The answer to a question about everything fed so far. The memory stays as it was, bit for bit.

        Args:
            question: in words.
            max_new_tokens: length of the answer at most.
            options: for `generate` of transformers; without any the answer is greedy.

        Raises:
            PromptError: nothing was fed yet, or the processor does not take the question.
        """
        self._check_open()
        state, waiting = self._state, self._waiting.waiting
        if waiting is not None:
            state = self._after(state, waiting)
        if state.last is None:
            raise PromptError("nothing was fed yet", "a question is about frames", "call `feed` first")
        ids = self._writer.question(state.last, question)
        text = self._answer(
            state, ids, {"do_sample": False, "num_beams": 1, **options, "max_new_tokens": max_new_tokens}
        )
        return StreamAnswer(text, self._seconds, state.memory.count)

    def close(self) -> None:
        """Forget everything. Safe to call again."""
        self._open = False
        self._state = State(Memory({}, {}), Clock())

    @property
    def status(self) -> StreamStatus:
        """What was seen and what is kept."""
        memory = self._state.memory
        return StreamStatus(
            self._seconds,
            self._frames,
            self._state.windows,
            self._state.columns,
            memory.count,
            memory.bytes,
            0,
            self._last_window,
        )

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._open:
            raise OptionError("this stream is closed", hint="open another one with `framefusion.stream`")

    def _read(self, frames: Frames) -> None:
        started = time.perf_counter()
        self._state = self._after(self._state, frames)
        self._last_window = time.perf_counter() - started

    def _after(self, state: State, frames: Frames) -> State:
        """The stream once it has read a window."""
        columns = self._writer.window(frames, state.last)
        positions, clock = self._positions(state, columns)
        with self._reader.turn() as owner:
            cache = cache_over(state.memory, self._reader.parts, owner)
            closing = self._run(cache, columns.inputs, positions, clock.top, state.memory.count, columns.tail)
            if columns.tail:
                cache.crop(-columns.tail)
            about = _about(columns, positions, state.steps)
            protected = state.memory.protected or int((columns.place >= 0).nonzero()[0])
            memory = grown(state.memory, cache, about, protected)
        tokens = self._tokens_for(memory)
        memory = memory.compressed(self._policy, tokens)
        last = Frames(np.zeros_like(frames.pictures[-1:]), frames.seconds[-1:])
        steps = int(columns.step[-1]) + 1
        return replace(
            state,
            memory=memory,
            clock=clock,
            closing=closing,
            last=last,
            windows=state.windows + 1,
            steps=state.steps + steps,
            columns=state.columns + columns.count - columns.tail,
        )

    def _positions(self, state: State, columns: Columns) -> tuple[Tensor, Clock]:
        since = torch.where(columns.times >= 0, columns.times - state.begin, -1.0)
        text_id = int(columns.inputs["input_ids"][0, 0])
        return self._planes.of_window(state.clock, columns.inputs, text_id, since, columns.joins)

    def _run(
        self, cache: Any, inputs: dict[str, Any], positions: Tensor, then: int, first: int, tail: int
    ) -> Tensor | None:
        """Read a window into `cache`. Returns the embeddings of its last `tail` columns."""
        model = self._reader.model
        seen: list[Tensor] = []

        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            seen.append(kwargs["inputs_embeds"][:, -tail:].clone())

        handles = [self._reader.parts.decoder.register_forward_pre_hook(hook, with_kwargs=True)] if tail else []
        try:
            with self._reader.placed(Places(first, positions[:, None], then)):
                model(**inputs, **{cache_name(): cache}, use_cache=True, **self._reader.logits(1))
        finally:
            for handle in handles:
                handle.remove()
        return seen[0] if seen else None

    def _answer(self, state: State, ids: Tensor, options: dict[str, Any]) -> str:
        memory, clock, parts = state.memory, state.clock, self._reader.parts
        closing = 0 if state.closing is None else state.closing.shape[1]
        positions, clock = self._planes.of_text(clock, closing + ids.shape[1])
        with self._reader.turn() as owner:
            cache = cache_over(memory, parts, owner)
            with self._reader.placed(Places(memory.count, positions[:, None], clock.top)):
                if state.closing is not None:
                    parts.decoder(inputs_embeds=state.closing, **{cache_name(): cache}, use_cache=True)
                mask = torch.ones(1, memory.count + closing + ids.shape[1], dtype=torch.long, device=ids.device)
                output = self._reader.model.generate(
                    input_ids=ids, attention_mask=mask, **{cache_name(): cache}, **options
                )
        tokens = output[0, ids.shape[1] :]
        return self._writer.checkpoint.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _tokens_for(self, memory: Memory) -> int:
        """Entries that a layer may hold."""
        if self._tokens is not None:
            return self._tokens
        assert self._bytes is not None
        per_entry = sum(layer.bytes / layer.count for layer in memory.layers.values())
        return max(0, int((self._bytes - memory.bytes_of_states) / per_entry))


def stream(
    model: nn.Module,
    processor: Any,
    *,
    method: Method | None = None,
    memory: int | str = 4096,
    policy: str | Policy = "window",
    window: int = WINDOW,
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
        quantization: of the memory, as in "kv=int4"; None keeps it as the model makes it.
        resume: a tape that `VideoStream.save` wrote.

    Returns:
        The stream.

    Raises:
        OptionError: an argument that is out of its range.
        UnsupportedModelError: a model whose cache cannot be brought down to a budget.

    Example:
        >>> with ff.stream(model, processor, memory=256, policy="uniform") as video:
        ...     video.feed(frames, seconds)
        ...     print(video.ask("what happens?"))
    """
    return VideoStream(
        model,
        processor,
        method=method,
        memory=memory,
        policy=policy,
        window=window,
        quantization=quantization,
        resume=resume,
    )


def policy_of(policy: str | Policy) -> Policy:
    """The policy of that name with its defaults. Raises UnknownNameError."""
    if not isinstance(policy, str):
        return policy
    if policy not in POLICIES:
        raise UnknownNameError(f"there is no policy `{policy}`", hint=f"choose one of {', '.join(sorted(POLICIES))}")
    return POLICIES[policy]()


def _about(columns: Columns, positions: Tensor, steps: int) -> Tensor:
    """(n, 2 + P) int32 frame, place and positions of the columns of a window."""
    facts = torch.stack([columns.step + steps, columns.place, *positions], 1)
    return facts.to(torch.int32)
