"""One forward pass through the decoder of a reduced model: the state that lives as long as the call.

The model's own loop runs untouched and believes in the whole prompt of L columns. Its layers see short sequences:
before each layer everything the loop hands over is cut to the slots that are left, and after the last layer the hidden
states are expanded to L again, so that outputs keep the prompt's length.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from framefusion.intercept.cache import ReducedLayer, state_bytes, visible_past
from framefusion.intercept.clock import Clock
from framefusion.intercept.decisions import Decisions
from framefusion.intercept.gather import POSITION_PREFIX, Fold, cut_position_ids, cut_positions, cut_sequence, fold
from framefusion.intercept.keys import Keys
from framefusion.intercept.masks import cut_mask
from framefusion.intercept.row_signals import Attended
from framefusion.intercept.stream import rows_at
from framefusion.intercept.trace import Decision, LayerTrace, PromptTrace, StepTrace
from framefusion.intercept.unpadded import Inputs, first_columns
from framefusion.method import IN_FRONT, INSIDE, Point, after_attention, before

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.intercept.entry import Prompt
    from framefusion.intercept.pictures import Pictures
    from framefusion.intercept.scores import AttentionCall
    from framefusion.intercept.stream import Step, Stream
    from framefusion.method import Stage

READ_BY_ATTENTION = ("attention_mask", "position_ids")


class Call:
    """State of one decoder call.

    owner: the engine it runs under. stream: the sequence as the next layer will see it. past: columns in the cache
    before this call. planes: visual features the model adds after its first layers, per layer and row (N, D).
    flash: whether attention runs in a flash kernel. positions: what the decoder was given as such, None if nothing.
    tables: rotary tables of the layer that runs, for all columns, kept where rows count their padding.
    """

    def __init__(
        self,
        owner: object,
        stages: tuple[Stage, ...],
        stream: Stream,
        past: int,
        prompt: Prompt,
        layers: int,
        planes: Sequence[list[Tensor]] = (),
        pictures: Pictures | None = None,
        flash: bool = False,
        positions: Any = None,
    ) -> None:
        self.flash = flash
        self.reduces = bool(stages)
        self.owner = owner
        self.prompt = prompt
        self.clock = Clock()
        self.stream = stream
        self.past = past
        self.query_length = stream.length
        self.layers = layers
        self.cache: Any = None
        self.finished = False
        self.batch = stream.columns.shape[0]
        self.entered: dict[int, Stream] = {}
        self.folds: dict[int, Fold] = {}
        self.no_place: set[int] = set()
        self.steps: dict[Point, list[Step]] = {}
        self.planes = list(planes)
        self.trace = PromptTrace(stream.visual_counts(), stream.length, [LayerTrace() for _ in range(layers)])
        self.decisions = Decisions(stages, stream, layers, prompt.query_columns, pictures)
        self.firsts = first_columns(prompt.real, positions, past) if self.decisions.wants_keys else None
        self.tables: dict[str, Any] = {}
        self.keys_read: dict[int, Keys] = {}
        self._key_sources: dict[int, int] = {}
        self._inputs: Inputs | None = None
        self._watched: list[AttentionCall] | None = None
        self._left: dict[int, Stream] = {}
        self._returned: dict[int, weakref.ref[Tensor]] = {}
        self._on_planes: list[Step] = []
        self._layer = 0
        self._riders: dict[int, list[Tensor]] = {}
        self._to_cut: dict[int, Tensor] = {}
        self._after_all: set[int] = set()
        self._added: dict[int, tuple[list[Tensor], tuple[Step, ...]]] = {}
        self._memo: dict[tuple, Any] = {}

    def length_before(self, layer: int) -> int:
        """Sequence length of what the model hands `layer`, before its own stages act; also in a replay."""
        if not self.finished:
            return self.stream.length
        return self._left[layer - 1].length if layer else self.query_length

    def before_layer(self, layer: int, hidden: Tensor) -> Tensor:
        """Add what the model would have added to its visual tokens, then run the stages that act before `layer`."""
        hidden = self._add_plane(layer - 1, hidden)
        if self.finished:
            return self._replay(before(layer), hidden)
        self._layer = layer
        hidden = self._advance(before(layer), hidden)
        self.entered[layer] = self.stream
        trace = self.trace.layers[layer]
        trace.visual, trace.length = self.stream.visual_counts(), self.stream.length
        return hidden

    def alias_riders(self, layer: int, given: dict[str, Any]) -> dict[str, Any]:
        """Inputs of `layer` with a row per token, which its second half may read, as tensors of this call alone.

        They become short together with the residual stream. Masks and positions are read by the attention only.
        """
        point, shape = after_attention(layer), (self.batch, self.entered[layer].length)
        if self.finished or not self.decisions.stages_at(point):
            return given
        riders = {
            name: value.view_as(value)
            for name, value in given.items()
            if isinstance(value, torch.Tensor)
            and value.ndim in (2, 3)
            and value.shape[:2] == shape
            and name not in READ_BY_ATTENTION
        }
        self._riders[layer] = list(riders.values())
        return {**given, **riders}

    def after_attention(self, layer: int, residual: Tensor, differentiable: bool) -> None:
        """Run the stages between attention and MLP on the residual stream, which is changed where it lies.

        Without autograd the tensor becomes short, and so does the MLP. With autograd the survivors' new values are
        written into it and the sequence is cut after the layer; the MLP then also reads the tokens about to go.
        """
        point = after_attention(layer)
        if differentiable:
            if not self.finished:
                with torch.no_grad():
                    self._advance(point, residual)
            if point in self.steps:
                self._to_cut[layer] = _write_survivors(residual, self.steps[point])
        else:
            short = self._replay(point, residual) if self.finished else self._advance(point, residual, True)
            if short is not residual:
                residual.data = short
                for rider in self._riders.pop(layer, ()):
                    for step in self.steps[point]:
                        rows = rider if rider.ndim == 3 else rider.unsqueeze(-1)
                        rider.data = rows_at(rows, step.gather).view(*step.gather.shape, *rider.shape[2:])
        if not self.finished:
            trace = self.trace.layers[layer]
            trace.visual_mlp, trace.mlp_length = self.stream.visual_counts(), residual.shape[1]

    def instead_of_after_attention(self, layer: int, hidden: Tensor) -> Tensor:
        """The same stages for blocks without a place between attention and MLP: they act after the whole layer."""
        point = after_attention(layer)
        if self.finished:
            return self._replay(point, hidden)
        trace = self.trace.layers[layer]
        trace.visual_mlp, trace.mlp_length = trace.visual, trace.length
        self._after_all.add(layer)
        hidden = self._advance(point, hidden)
        self.trace.moved_points |= point in self.steps
        return hidden

    def after_layer(self, layer: int, hidden: Tensor) -> Tensor:
        """Cut what autograd did not let us cut before; after the last layer, return to the prompt's length."""
        if not self.finished:
            self._left[layer] = self.stream
            self._returned[layer] = weakref.ref(hidden)
        if layer in self._to_cut:
            hidden = _pick(hidden, self._to_cut[layer])
        if layer < self.layers - 1:
            return hidden
        hidden = self._add_plane(layer, hidden)
        return self.stream.expand_to_prompt(hidden) if self.stream.version else hidden

    def _advance(self, point: Point, hidden: Tensor, in_place: bool = False) -> Tensor:
        """Let the stages of `point` decide in turn and apply their steps, which are kept for a replay.

        in_place: `hidden` may be overwritten.
        """
        for number in self.decisions.stages_at(point):
            with torch.no_grad():
                step = self.decisions.ask(number, point, self.stream, hidden)
            if step is not None:
                self.steps.setdefault(point, []).append(step)
                hidden = step.apply_in_place(hidden) if in_place else step.apply(hidden)
                self._on_planes.append(step)
                self._record(number, point, step)
                self.stream = step.after
        return hidden

    def _record(self, stage: int, point: Point, step: Step) -> None:
        whole = self.decisions.whole
        if whole:
            point = INSIDE if self.decisions.stages[stage].stream == "vision" else IN_FRONT
        for cut in step.cuts:
            columns = self.stream.columns[cut.number][cut.old]
            plan = whole.get(cut.number, cut.plan)
            self.trace.decisions.append(Decision(point, cut.number, plan, columns))
        counts = self.stream.visual_counts(), step.after.visual_counts()
        self.trace.steps.append(StepTrace(stage, point, *counts))

    def _replay(self, point: Point, hidden: Tensor) -> Tensor:
        for step in self.steps.get(point, ()):
            hidden = step.apply(hidden)
        return hidden

    def _add_plane(self, layer: int, hidden: Tensor) -> Tensor:
        if not self.finished and 0 <= layer < len(self.planes) and self.planes[layer]:
            slots = [row.slots for row in self.stream.rows]
            self._added[layer] = (slots, tuple(self._on_planes))
        if layer not in self._added:
            return hidden
        hidden = hidden.clone()
        slots, steps = self._added[layer]
        rows = self.planes[layer]
        # Here, where gradients are recorded, and again in every replay: decisions are made without either.
        for step in steps:
            rows = step.apply_to_visual(rows)
        for number, (places, plane) in enumerate(zip(slots, rows, strict=True)):
            places = places.to(hidden.device)
            hidden[number, places] = hidden[number, places] + plane.to(hidden.device, hidden.dtype)
        return hidden

    def before_attention(self, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Keep what the attention of this layer is called with, for stages that look at keys of padded rows."""
        if self.firsts is not None and not self.finished and self._watched is None:
            self._inputs = Inputs(module, args, given, self.tables, self.query_length, self.firsts)

    @contextmanager
    def only_watching(self) -> Iterator[list[AttentionCall]]:
        """Attention that runs inside is listed, and is none of the prompt's."""
        self._watched = []
        try:
            yield self._watched
        finally:
            self._watched = None

    def saw_attention(self, module: nn.Module, attention: AttentionCall) -> None:
        """Remember the attention call of the layer that runs now; scores are computed from it only if a stage asks."""
        if self.finished:
            return
        if self._watched is not None:
            self._watched.append(attention)
            return
        source = self._key_sources.get(self._layer)
        keys_of = self.stream if source is None else self.entered[source]
        inputs = self._inputs if source is None else None
        self.decisions.attended = Attended(attention, self._layer, self.stream, keys_of, inputs)
        trace, key, value = self.trace.layers[self._layer], attention.key, attention.value
        per_slot = (key.shape[1] * key.shape[-1] * key.element_size()) + (
            value.shape[1] * value.shape[-1] * value.element_size()
        )
        trace.kv_bytes = per_slot * key.shape[0] * self.stream.length
        trace.kv_bytes_dense = per_slot * key.shape[0] * self.query_length

    def queries(self, stream: Stream) -> Keys:
        """The slots of `stream` in columns counted from the beginning of the cache."""
        return self._once(("queries", id(stream)), stream, lambda: Keys(stream.columns + self.past, stream.valid))

    def keys_now(self, layer: int, source: int | None = None) -> Keys:
        """Entries the attention of `layer` reads in this call: cached ones, then the slots of the call.

        source: the earlier layer whose keys it reads instead of its own.
        Must be asked for the first time before the layer's attention, which changes the cache.
        """
        if source is not None and layer not in self.keys_read:
            self._key_sources[layer] = source
            self.keys_read[layer] = self.keys_read[source]
        if layer not in self.keys_read:
            queries = self.queries(self.entered[layer])
            past = visible_past(self.cache, layer, self.past, self.query_length, queries.columns)
            self.keys_read[layer] = queries if past is None else self._joined(past, queries)
        return self.keys_read[layer]

    def keys_after(self, cached: ReducedLayer) -> Keys:
        """Entries of a reduced cache layer once those of the layer that runs now are stored."""
        queries = self.queries(self.entered[self._layer])
        return self._joined(cached.keys_seen, queries).last(cached.stored_after(queries.length))

    def _joined(self, past: Keys, queries: Keys) -> Keys:
        """Layers that hold the same entries share one object, and with it one mask."""
        return self._once(("joined", id(past), id(queries)), (past, queries), lambda: past.append(queries))

    def mask(self, layer: int, mask: Any) -> Any:
        """What the attention of `layer` gets instead of the model's mask."""
        queries, keys = self.queries(self.entered[layer]), self.keys_now(layer)
        total = self.past + self.query_length
        return self._once(
            ("mask", id(mask), id(queries), id(keys)),
            (mask, queries, keys),
            lambda: cut_mask(mask, queries, keys, total, self.query_length, self.flash),
        )

    def padding(self, layer: int, mask: Tensor | None) -> Tensor | None:
        """What a recurrent layer gets instead of the model's padding mask."""
        valid = self.entered[layer].valid
        return valid if valid is None or mask is None else valid.to(mask.dtype)

    def cut(self, layer: int, name: str, value: Any) -> Any:
        """Any other input of `layer`, cut to the slots that are left; shared inputs are cut once."""
        stream = self.entered[layer]
        rule = (
            cut_positions
            if name.startswith(POSITION_PREFIX)
            else cut_position_ids
            if name == "position_ids"
            else cut_sequence
        )
        return self._once(
            (name, id(value), id(stream)), (value, stream), lambda: rule(value, stream.columns, self.query_length)
        )

    def _once(self, key: tuple, anchor: Any, make: Any) -> Any:
        """Compute once per call; `anchor` is held so that the ids in `key` stay unique."""
        if self.finished:
            return make()
        if key not in self._memo:
            self._memo[key] = (make(), anchor)
        return self._memo[key][0]

    def expand_state(self, number: int, state: Tensor) -> Tensor:
        """Entry `number` of the returned hidden states at the prompt's length: 0 is the input of layer 0.

        A state may have been captured before our hook on its layer or behind it. Lengths alone cannot tell the two
        apart, since a batch keeps its length while its longest row loses nothing.
        """
        stream = self.entered[0] if number == 0 else self._left[number - 1]
        if state.ndim > 3:
            flat, shape = fold(state, self.batch, stream.length)
            return shape.undo(stream.expand_to_prompt(flat)) if flat.shape[1] == stream.length else state
        as_returned = number > 0 and self._returned[number - 1]() is state
        if number == self.layers and not as_returned:
            return state
        gather = self._to_cut.get(number - 1)
        if gather is not None and (as_returned or state.shape[1] != stream.length):
            state = _pick(state, gather)
        return stream.expand_to_prompt(state) if state.shape[1] == stream.length else state

    def expand_in_mlp(self, layer: int, values: Tensor) -> Tensor:
        """What the second half of `layer` returned for its slots, (B, K, D), at the prompt's length."""
        if layer in self._to_cut:
            values = _pick(values, self._to_cut[layer])
        stream = self.entered[layer] if layer in self._after_all else self._left[layer]
        return stream.expand_to_prompt(values)

    def count_states(self) -> None:
        """Add what convolutions and recurrences keep, which is as much for a short sequence as for a long one."""
        for trace, entry in zip(self.trace.layers, getattr(self.cache, "layers", ()), strict=False):
            size = state_bytes(entry)
            trace.kv_bytes += size
            trace.kv_bytes_dense += size

    def finish(self) -> None:
        """The decoder returned; from now on hooks that meet this call are replaying it in a backward pass."""
        self.finished = True
        self.clock.stop()
        self._memo.clear()
        self.decisions.attended = self.decisions.pictures = self._inputs = None
        self.tables = {}
        if not torch.is_grad_enabled():
            self.planes, self._added = [], {}


def _pick(hidden: Tensor, gather: Tensor) -> Tensor:
    """(B, K_old, D) at slots (B, K_new) -> (B, K_new, D)."""
    return hidden.gather(1, gather.to(hidden.device).unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))


def _write_survivors(residual: Tensor, steps: list[Step]) -> Tensor:
    """Put the values the survivors get into their slots of `residual`; returns (B, K_new) where they are."""
    short, gather = residual, None
    for step in steps:
        short = step.apply(short)
        gather = step.gather if gather is None else gather.gather(1, step.gather)
    assert gather is not None
    valid = steps[-1].after.valid
    if valid is None:
        residual.scatter_(1, gather.to(residual.device).unsqueeze(-1).expand_as(short), short)
    else:
        row, slot = (index.to(residual.device) for index in valid.nonzero(as_tuple=True))
        residual[row, gather.to(residual.device)[row, slot]] = short[row, slot]
    return gather
