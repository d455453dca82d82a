"""One model with one method and one policy: how a window changes a stream, and how a question is answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from framefusion.core.errors import OptionError
from framefusion.engine import context
from framefusion.engine.model.cache_names import cache_name
from framefusion.inference.stream.cache import cache_over, grown
from framefusion.inference.stream.policies.policy import WORDS
from framefusion.inference.stream.prompt import Columns, Frames, cut
from framefusion.inference.stream.reading import Places
from framefusion.inference.stream.rotary import contiguous

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.attention_call import AttentionCall
    from framefusion.inference.stream.budget import Budget
    from framefusion.inference.stream.memory import Memory
    from framefusion.inference.stream.policies.policy import Policy
    from framefusion.inference.stream.positions import Clock, Planes
    from framefusion.inference.stream.prompt import PromptWriter
    from framefusion.inference.stream.reading import Reader
    from framefusion.inference.stream.rotary import Rotary
    from framefusion.inference.stream.state import State

RESERVE = 1024
"""Positions that stay free for a question and its answer."""


@dataclass(frozen=True, eq=False)
class Watching:
    """What reads streams. It holds nothing of any of them."""

    writer: PromptWriter
    reader: Reader
    planes: Planes
    rotary: Rotary
    policy: Policy
    budget: Budget

    def after(self, state: State, frames: Frames) -> State:
        """The stream once it has read a window."""
        columns = self.writer.window(frames, state.last, state.steps)
        positions, clock = self._positions(state, columns)
        with self.reader.turn() as owner:
            memory, closing = self._read(state, columns, positions, clock, owner)
            memory = self._within_budget(replace(state, memory=memory, clock=clock), frames, owner)
        memory, clock = self._within_limit(memory, clock, clock.top - state.clock.top)
        return replace(
            state,
            memory=memory,
            clock=clock,
            closing=closing,
            last=Frames(np.zeros_like(frames.pictures[-1:]), frames.seconds[-1:]),
            windows=state.windows + 1,
            steps=state.steps + int(columns.step[-1]) + 1,
            columns=state.columns + columns.staying,
        )

    def answer(self, state: State, question: str, options: dict[str, Any]) -> str:
        """What the model says, reading the memory of `state` and changing nothing of it."""
        assert state.last is not None
        ids = self.writer.question(state.last, question)
        with self.reader.turn() as owner, self._asked(state, ids, owner) as (cache, mask):
            output = self.reader.model.generate(input_ids=ids, attention_mask=mask, **{cache_name(): cache}, **options)
        return self.writer.words(output[0, ids.shape[1] :])

    @contextmanager
    def _asked(self, state: State, ids: Tensor, owner: object) -> Iterator[tuple[Any, Tensor]]:
        """A cache behind whose columns `ids` (1, n) are a question, and the mask of both."""
        closing = 0 if state.closing is None else state.closing.shape[1]
        positions, clock = self.planes.of_text(state.clock, closing + ids.shape[1])
        cache = cache_over(state.memory, self.reader.parts, owner)
        with self.reader.placed(Places(state.memory.count, positions[:, None], clock.top)):
            if state.closing is not None:
                self.reader.parts.decoder(inputs_embeds=state.closing, **{cache_name(): cache}, use_cache=True)
            count = state.memory.count + closing + ids.shape[1]
            yield cache, torch.ones(1, count, dtype=torch.long, device=ids.device)

    def _positions(self, state: State, columns: Columns) -> tuple[Tensor, Clock]:
        since = torch.where(columns.times >= 0, columns.times - state.begin, -1.0)
        inputs = cut(columns.inputs, 0, columns.staying)
        return self.planes.of_window(state.clock, inputs, self.writer.word, since[: columns.staying], columns.joins)

    def _read(
        self, state: State, columns: Columns, positions: Tensor, clock: Clock, owner: object
    ) -> tuple[Memory, Tensor | None]:
        """The memory with everything of a window, and the embeddings that close the clip."""
        reader, tail = self.reader, columns.tail
        cache = cache_over(state.memory, reader.parts, owner)
        with reader.placed(Places(state.memory.count, positions[:, None], clock.top)), reader.last_inputs(tail) as seen:
            reader.model(**columns.inputs, **{cache_name(): cache}, use_cache=True, **reader.logits(1))
        if tail:
            cache.crop(-tail)
        stay = slice(0, columns.staying)
        about = torch.stack([columns.step[stay] + state.steps, columns.place[stay], *positions], 1).to(torch.int32)
        protected = state.memory.protected or int((columns.place < WORDS).nonzero()[0])
        return grown(state.memory, cache, about, protected), seen[0] if seen else None

    def _within_budget(self, state: State, frames: Frames, owner: object) -> Memory:
        memory = state.memory
        tokens = self.budget.tokens(memory)
        if tokens <= memory.protected:
            raise OptionError(
                f"memory={self.budget.given!r} holds {tokens} entries of each layer",
                f"the {memory.protected} columns in front of the first frame stay for good",
                "give the stream more memory",
            )
        if memory.count <= tokens:
            return memory
        return memory.compressed(self.policy, tokens, self.rotary, self._scores(state, frames, owner))

    def _scores(self, state: State, frames: Frames, owner: object) -> dict[int, Tensor]:
        """By layer, the attention that the question which the policy asks of it pays to every entry."""
        numbers = list(state.memory.layers)
        wanted = {number: self.policy.question_of(at, len(numbers)) for at, number in enumerate(numbers)}
        scores: dict[int, Tensor] = {}
        for asked, question in enumerate(self.policy.questions):

            def watch(layer: int, call: AttentionCall, asked: int = asked) -> None:
                if wanted.get(layer) == asked:
                    count = state.memory.layers[layer].count
                    rows = torch.arange(call.query.shape[2], device=call.query.device)
                    scores[layer] = call.map(0, rows).mean((0, 1))[:count]

            ids = self.writer.question(frames.part(-1, None), question)
            with self._asked(state, ids, owner) as (cache, _), context.watched_by(watch):
                self.reader.model(input_ids=ids, **{cache_name(): cache}, use_cache=True, **self.reader.logits(1))
        return scores

    def _within_limit(self, memory: Memory, clock: Clock, growth: int) -> tuple[Memory, Clock]:
        """Both with positions made contiguous where the model's last ones are near."""
        limit = self.rotary.limit
        if limit is None or clock.top + growth + min(RESERVE, limit // 4) <= limit:
            return memory, clock
        given = {number: layer.about[..., 2:] for number, layer in memory.layers.items()}
        moved, down = contiguous(given, memory.protected, clock.base)
        if down <= 0 and clock.top <= limit:
            return memory, clock
        if down <= 0:
            raise OptionError(
                "this stream is longer than the model can tell positions apart",
                f"nothing was forgotten, and the model knows {limit} positions",
                "choose a policy that forgets, or less memory",
            )
        top = 1 + max(int(positions.max()) for positions in moved.values())
        return memory.moved(moved, self.rotary), clock.moved_down(down, top)
