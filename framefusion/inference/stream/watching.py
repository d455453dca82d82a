"""One model with one method and one policy: how a window changes a stream, and how a question is answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    from framefusion.engine.context import Watcher
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
    """What reads streams. It holds nothing of any of them.

    context: entries that a window is read with at most, beside those in front of the first frame; None for all. span:
    positions that the steps of a memory take where a question is asked; None leaves it where it is.
    """

    writer: PromptWriter
    reader: Reader
    planes: Planes
    rotary: Rotary
    policy: Policy
    budget: Budget
    context: int | None
    span: int | None
    width: Width

    def after(self, state: State, frames: Frames) -> State:
        """The stream once it has read a window."""
        return self.all_after([state], [frames])[0]

    def alone(self, state: State, frames: Frames) -> State:
        """The stream once it has read its recent frames: in one piece, and without looking at the memory.

        The columns in front of the first frame are read with them. Nothing is forgotten.
        """
        columns = self.writer.window(frames, state.last, state.steps)
        with self.reader.turn() as owner:
            (read,) = replace(self, context=0)._read([state], [columns], owner)
        read = _counted(read, columns, frames)
        return self._within_limit(replace(read, recent=read.steps - state.steps), 0)

    def all_after(self, states: Sequence[State], windows: Sequence[Frames]) -> list[State]:
        """Streams once each has read a window of its own; those that fit together are read in one pass."""
        columns = [self.writer.window(new, state.last, state.steps) for state, new in zip(states, windows, strict=True)]
        alike: dict[Any, list[int]] = {}
        for number, (own, state) in enumerate(zip(columns, states, strict=True)):
            # Rows that a method leaves unequal are padded, and padding would enter the states of recurrent layers.
            apart = number if self.reader.reduces and state.memory.states else None
            alike.setdefault((own.tail, bool(state.memory.layers), own.shapes, apart), []).append(number)
        found: dict[int, State] = {}
        with self.reader.turn() as owner:
            for rows in alike.values():
                given = [states[row] for row in rows], [columns[row] for row in rows]
                for row, read in zip(rows, self._read(*given, owner), strict=True):
                    found[row] = self._settled(states[row], read, columns[row], windows[row], owner)
        return [found[number] for number in range(len(states))]

    def _settled(self, before: State, read: State, columns: Columns, frames: Frames, owner: object) -> State:
        """A stream that read a window, within its budget and the model's positions."""
        read = replace(read, memory=self._within_budget(read, frames, owner))
        return _counted(self._within_limit(read, read.clock.top - before.clock.top), columns, frames)

    def answer(self, state: State, question: str, options: dict[str, Any]) -> tuple[str, int]:
        """What the model says, and entries it read of the memory of `state`, of which nothing is changed."""
        return self.answers([state], [question], options)[0]

    def answers(
        self, states: Sequence[State], questions: Sequence[str], options: dict[str, Any]
    ) -> list[tuple[str, int]]:
        """The same for several streams in one call of the model."""
        ids = [self.writer.question(state.last, asked) for state, asked in zip(states, questions, strict=True)]
        alike: dict[Any, list[int]] = {}
        for number, own in enumerate(ids):  # padding would enter the states of recurrent layers
            alike.setdefault(own.shape, []).append(number)
        found: dict[int, tuple[str, int]] = {}
        with self.reader.turn() as owner:
            for rows in alike.values():
                read = [self._chosen(states[row], ids[row], owner) for row in rows]
                with self._asked(read, torch.cat([ids[row] for row in rows]), owner) as (cache, given):
                    model: Any = self.reader.model
                    output = model.generate(**given, **{cache_name(): cache}, **options)
                for row, words, state in zip(rows, output, read, strict=True):
                    found[row] = self.writer.words(words[ids[row].shape[1] :]), state.memory.count
        return [found[number] for number in range(len(states))]

    def _seen(self, memory: Memory) -> Memory:
        """What a window is read with: all of it, or the latest of it."""
        most = [] if self.context is None else [memory.protected + self.context]
        if self.policy.retrieves and memory.layers:
            most.append(self.budget.tokens(memory))
        return latest(memory, min(most), self.reader.parts.model.device) if most and memory.layers else memory

    def _chosen(self, state: State, ids: Tensor, owner: object) -> State:
        """What a question is asked of: all of it, or what it picks of what is kept whole."""
        if not self.policy.retrieves:
            return self._drawn_together(state)
        tokens, device = self._read_by_question(state), self.reader.parts.model.device
        seen = replace(state, memory=latest(state.memory, tokens, device))
        if state.memory.count <= tokens:
            return self._drawn_together(seen)
        queries: dict[int, tuple[Tensor, Tensor]] = {}
        first = state.clock.text + _closing(state)
        places = torch.arange(first, first + ids.shape[1])[:, None].expand(-1, self.planes.count)

        def watch(layer: int, call: AttentionCall) -> None:
            query = call.query[0, :, -ids.shape[1] :].cpu()
            queries[layer] = query, places[-query.shape[1] :]

        self._listen(seen, ids, owner, watch)
        return self._drawn_together(chosen(state, queries, self.policy, tokens, self.rotary, device))

    def _drawn_together(self, state: State) -> State:
        """The stream as it is while it is asked: within `span` positions, of which the latest half are not shared.

        Recent steps have positions of their own behind them.
        """
        if self.span is None:
            return state
        return close_gaps(state, self.rotary, self.span + state.recent, self.span // 2 + state.recent)

    def _read_by_question(self, state: State) -> int:
        """Entries of each layer that a question is answered from, where the policy retrieves."""
        return self.budget.tokens(state.memory) + state.memory.since(state.lasting)

    def _listen(self, state: State, ids: Tensor, owner: object, watch: Watcher) -> None:
        """Read a question without an answer, and show its attention calls to `watch`."""
        with self._asked([state], ids, owner) as (cache, _), context.watched_by(watch):
            self.reader.model(input_ids=ids, **{cache_name(): cache}, use_cache=True, **self.reader.logits(1))

    @contextmanager
    def _asked(self, states: Sequence[State], ids: Tensor, owner: object) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        """A cache behind whose columns `ids` (B, n) are questions, and these with the mask of both for `generate`."""
        closing = _closing(states[0])
        cache = cache_over([state.memory for state in states], self.reader.parts, owner)
        start = max(state.memory.count for state in states)
        planned = [self.planes.of_text(state.clock, closing + ids.shape[1]) for state in states]
        table = torch.stack([positions for positions, _ in planned], 1)
        mask = torch.ones(len(states), start + closing + ids.shape[1], dtype=torch.long, device=ids.device)
        with self.reader.placed(Places(start, table, torch.tensor([clock.top for _, clock in planned]))):
            if closing:
                embeds = torch.cat([state.closing for state in states if state.closing is not None])
                self.reader.parts.decoder(inputs_embeds=embeds, **{cache_name(): cache}, use_cache=True)
            yield cache, {"input_ids": ids, "attention_mask": mask}

    def _positions(self, state: State, columns: Columns) -> tuple[Tensor, Clock]:
        since = torch.where(columns.times >= 0, columns.times - state.begin, -1.0)
        inputs = cut(columns.inputs, 0, columns.staying)
        return self.planes.of_window(state.clock, inputs, self.writer.word, since[: columns.staying], columns.joins)

    def _read(self, states: Sequence[State], columns: Sequence[Columns], owner: object) -> list[State]:
        """Streams with everything of their windows in memory, which are alike in shape."""
        reader, tail, stay = self.reader, columns[0].tail, columns[0].staying
        placed = [self._positions(state, own) for state, own in zip(states, columns, strict=True)]
        known = [self._seen(state.memory) for state in states]
        cache = cache_over(known, reader.parts, owner)
        start = max(memory.count for memory in known)
        table = torch.stack([positions for positions, _ in placed], 1)
        then = torch.tensor([clock.top for _, clock in placed])
        inputs = {name: torch.cat([own.inputs[name] for own in columns]) for name in columns[0].inputs}
        with reader.placed(Places(start, table, then)), reader.last_inputs(tail) as seen:
            reader.model(**inputs, **{cache_name(): cache}, use_cache=True, **reader.logits(1))
        found = []
        for row, (state, own, (positions, clock)) in enumerate(zip(states, columns, placed, strict=True)):
            facts = [own.step[:stay] + state.steps, own.place[:stay], *positions]
            about = torch.stack(facts, 1).to(torch.int32)
            protected = state.memory.protected or int((own.place < WORDS).nonzero()[0])
            memory = grown(state.memory, cache, row, start, about, protected, self.width)
            memory = memory.on("cpu") if self.policy.retrieves else memory
            closing = seen[0][row : row + 1] if seen else None
            found.append(replace(state, memory=memory, clock=clock, closing=closing))
        return found

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
            self._listen(self._drawn_together(state), ids, owner, watch)
        return scores

    def _within_limit(self, state: State, growth: int) -> State:
        """The stream with lower positions where the model's last ones are near. growth: positions of a window."""
        limit, top = self.rotary.limit, state.clock.top
        if limit is None or top + growth + min(RESERVE, limit // 4) <= limit:
            return state
        if self.policy.retrieves:
            moved = moved_back(state, self._read_by_question(state), self.rotary)
        else:
            moved = close_gaps(state, self.rotary)
        if moved.clock.top >= top and top > limit:
            raise OptionError(
                "this stream is longer than the model can tell positions apart",
                f"nothing was forgotten, and the model knows {limit} positions",
                "choose a policy that forgets, or less memory",
            )
        return moved if moved.clock.top < top else state


def _counted(read: State, columns: Columns, frames: Frames) -> State:
    """A stream that read a window, with what it counts."""
    return replace(
        read,
        last=Frames(np.zeros_like(frames.pictures[-1:]), frames.seconds[-1:]),
        windows=read.windows + 1,
        steps=read.steps + int(columns.step[-1]) + 1,
        columns=read.columns + columns.staying,
    )


def _closing(state: State) -> int:
    """Columns that close the clip in front of a question."""
    return 0 if state.closing is None else state.closing.shape[1]
