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
from framefusion.inference.stream.retrieval import chosen, close_gaps, latest, moved_back

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.attention_call import AttentionCall
    from framefusion.inference.stream.budget import Budget
    from framefusion.inference.stream.memory import Memory
    from framefusion.inference.stream.packed import Width
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
    width: Width

    def after(self, state: State, frames: Frames) -> State:
        """The stream once it has read a window."""
        columns = self.writer.window(frames, state.last, state.steps)
        positions, clock = self._positions(state, columns)
        growth = clock.top - state.clock.top
        with self.reader.turn() as owner:
            memory, closing = self._read(state, columns, positions, clock, owner)
            memory = self._within_budget(replace(state, memory=memory, clock=clock), frames, owner)
        return replace(
            self._within_limit(replace(state, memory=memory, clock=clock), growth),
            closing=closing,
            last=Frames(np.zeros_like(frames.pictures[-1:]), frames.seconds[-1:]),
            windows=state.windows + 1,
            steps=state.steps + int(columns.step[-1]) + 1,
            columns=state.columns + columns.staying,
        )

    def answer(self, state: State, question: str, options: dict[str, Any]) -> tuple[str, int]:
        """What the model says, and entries it read of the memory of `state`, of which nothing is changed."""
        assert state.last is not None
        ids = self.writer.question(state.last, question)
        with self.reader.turn() as owner:
            state = self._chosen(state, ids, owner)
            with self._asked(state, ids, owner) as (cache, mask):
                given = {"input_ids": ids, "attention_mask": mask, cache_name(): cache}
                output = self.reader.model.generate(**given, **options)
        return self.writer.words(output[0, ids.shape[1] :]), state.memory.count

    def _seen(self, memory: Memory) -> Memory:
        """What a window is read with: all of it, or the latest of what is kept whole."""
        if not self.policy.retrieves or not memory.layers:
            return memory
        return latest(memory, self.budget.tokens(memory), self.reader.parts.model.device)

    def _chosen(self, state: State, ids: Tensor, owner: object) -> State:
        """What a question is asked of: all of it, or what it picks of what is kept whole."""
        if not self.policy.retrieves:
            return state
        tokens, device = self.budget.tokens(state.memory), self.reader.parts.model.device
        seen = replace(state, memory=self._seen(state.memory))
        if state.memory.count <= tokens:
            return seen
        queries: dict[int, tuple[Tensor, Tensor]] = {}
        first = state.clock.text + _closing(state)
        places = torch.arange(first, first + ids.shape[1])[:, None].expand(-1, self.planes.count)

        def watch(layer: int, call: AttentionCall) -> None:
            query = call.query[0, :, -ids.shape[1] :].cpu()
            queries[layer] = query, places[-query.shape[1] :]

        self._listen(seen, ids, owner, watch)
        return chosen(state, queries, self.policy, tokens, self.rotary, device)

    def _listen(self, state: State, ids: Tensor, owner: object, watch: context.Watcher) -> None:
        """Read a question without an answer, and show its attention calls to `watch`."""
        with self._asked(state, ids, owner) as (cache, _), context.watched_by(watch):
            self.reader.model(input_ids=ids, **{cache_name(): cache}, use_cache=True, **self.reader.logits(1))

    @contextmanager
    def _asked(self, state: State, ids: Tensor, owner: object) -> Iterator[tuple[Any, Tensor]]:
        """A cache behind whose columns `ids` (1, n) are a question, and the mask of both."""
        closing = _closing(state)
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
        known = self._seen(state.memory)
        cache = cache_over(known, reader.parts, owner)
        with reader.placed(Places(known.count, positions[:, None], clock.top)), reader.last_inputs(tail) as seen:
            reader.model(**columns.inputs, **{cache_name(): cache}, use_cache=True, **reader.logits(1))
        if tail:
            cache.crop(-tail)
        stay = slice(0, columns.staying)
        about = torch.stack([columns.step[stay] + state.steps, columns.place[stay], *positions], 1).to(torch.int32)
        protected = state.memory.protected or int((columns.place < WORDS).nonzero()[0])
        memory = grown(state.memory, cache, known.count, about, protected, self.width)
        return memory.on("cpu") if self.policy.retrieves else memory, seen[0] if seen else None

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
            self._listen(state, ids, owner, watch)
        return scores

    def _within_limit(self, state: State, growth: int) -> State:
        """The stream with lower positions where the model's last ones are near. growth: positions of a window."""
        limit, top = self.rotary.limit, state.clock.top
        if limit is None or top + growth + min(RESERVE, limit // 4) <= limit:
            return state
        if self.policy.retrieves:
            moved = moved_back(state, self._seen(state.memory), self.rotary)
        else:
            moved = close_gaps(state, self.rotary)
        if moved.clock.top >= top and top > limit:
            raise OptionError(
                "this stream is longer than the model can tell positions apart",
                f"nothing was forgotten, and the model knows {limit} positions",
                "choose a policy that forgets, or less memory",
            )
        return moved if moved.clock.top < top else state


def _closing(state: State) -> int:
    """Columns that close the clip in front of a question."""
    return 0 if state.closing is None else state.closing.shape[1]
