"""One forward pass through the decoder of a reduced model: the state that lives as long as the pass.

The model's own loop runs untouched and believes in the whole prompt of L columns. Its layers see short sequences:
before each layer everything the loop hands over is cut to the slots that are left, and after the last layer the hidden
states are expanded to L again, so that outputs keep the prompt's length.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.method import IN_FRONT, INSIDE, Point, after_attention, before
from framefusion.engine.decoder.attention import LastAttention, first_columns
from framefusion.engine.decoder.decide import Decisions
from framefusion.engine.decoder.deepstack import DeepStack
from framefusion.engine.decoder.layer_inputs import POSITION_IDS, LayerInputs
from framefusion.engine.decoder.merged_weights import MergedWeights
from framefusion.engine.decoder.recorder import Recorder
from framefusion.engine.sequence.state import rows_at
from framefusion.engine.sequence.survivors import write_survivors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.method import Stage
    from framefusion.engine.attention_call import AttentionCall
    from framefusion.engine.inputs.prompt import Prompt
    from framefusion.engine.model.parts import Block
    from framefusion.engine.sequence.reduce import ReductionStep
    from framefusion.engine.sequence.slicing import Fold
    from framefusion.engine.sequence.state import SequenceState
    from framefusion.engine.trace import ForwardTrace
    from framefusion.engine.vision.signals import Pictures

READ_BY_ATTENTION = ("attention_mask", POSITION_IDS)


class Forward:
    """State of one forward pass.

    owner: of the reduction it runs under. sequence: as the next layer will see it. past: columns in the cache before.
    cache: what the decoder was given, None if nothing. planes: what `take_planes` took of the inputs. flash: whether
    attention runs in a flash kernel. positions: what the decoder was given as such, None if nothing. weighs: as in
    `LayerInputs`. watcher: of attention calls. entered, left: by layer, the sequence its attention reads and returns.
    """

    def __init__(
        self,
        owner: object,
        stages: tuple[Stage, ...],
        sequence: SequenceState,
        prompt: Prompt,
        past: int,
        layers: int,
        cache: Any = None,
        planes: list[list[Tensor]] | None = None,
        pictures: Pictures | None = None,
        flash: bool = False,
        positions: Any = None,
        weighs: bool = False,
        watcher: Any = None,
    ) -> None:
        self.owner, self._watcher = owner, watcher
        self.reduces = bool(stages)
        self.prompt, self.past, self.cache = prompt, past, cache
        self.sequence = sequence
        self.batch, self.length = sequence.columns.shape
        self.finished = False
        self.inputs = LayerInputs(past, self.length, flash, weighs)
        self.weights = MergedWeights(self.inputs.keys)
        self.deepstack = DeepStack(planes or [])
        self.decisions = Decisions(stages, sequence, layers, prompt.query_columns, pictures, positions)
        padding = first_columns(prompt.real, positions, past) if self.decisions.wants_keys else None
        self.attention = LastAttention(self.length, padding)
        self.entered: dict[int, SequenceState] = {}
        self.left: dict[int, SequenceState] = {}
        self.returned: dict[int, weakref.ref[Tensor]] = {}
        self.cut_after: dict[int, Tensor] = {}
        self.acted_after: set[int] = set()
        self.folds: dict[int, Fold] = {}
        self.no_place: set[int] = set()
        self.steps: dict[Point, list[ReductionStep]] = {}
        self._layer = 0
        self._aliased: dict[int, list[Tensor]] = {}
        self._layers = layers
        self._recorder = Recorder(sequence, layers)

    def length_before(self, layer: int) -> int:
        """Sequence length of what the model hands `layer`, before its own stages act; also in a replay."""
        if not self.finished:
            return self.sequence.length
        return self.left[layer - 1].length if layer else self.length

    def before_layer(self, layer: int, hidden: Tensor) -> Tensor:
        """Add what the model would have added to its visual tokens, then run the stages that act before `layer`."""
        hidden = self._add_planes(layer - 1, hidden)
        if self.finished:
            return self._replay(before(layer), hidden)
        self._layer = layer
        hidden = self._advance(before(layer), hidden)
        self.entered[layer] = self.sequence
        self._recorder.attention_begins(layer, self.sequence)
        return hidden

    def cut_inputs(self, layer: int, block: Block, given: dict[str, Any], cached: bool) -> dict[str, Any]:
        """The other inputs of `layer` for the sequence it reads. cached: whether a short one is cached for it."""
        state = self.entered[layer]
        reduced = cached or bool(state.version)
        if not self.finished:
            if block.attention is not None and (self.reduces or reduced):
                self.inputs.push_keys(layer, block, state, self.cache, self.owner)
            source = None if block.key_source is None else self.entered[block.key_source]
            self.attention.layer_begins(given, state, source)
        if reduced:
            given = self.inputs.cut(layer, block, state, given)
        return given if block.mlp_norm is None else self._alias(layer, given)

    def _alias(self, layer: int, given: dict[str, Any]) -> dict[str, Any]:
        """Inputs with a row per token, which the second half of `layer` may read, as tensors of this pass alone.

        They become short together with the residual stream. Masks and positions are read by the attention only.
        """
        if self.finished or not self.decisions.stages_at(after_attention(layer)):
            return given
        shape = (self.batch, self.entered[layer].length)
        aliases = {
            name: value.view_as(value)
            for name, value in given.items()
            if isinstance(value, torch.Tensor)
            and value.ndim in (2, 3)
            and value.shape[:2] == shape
            and name not in READ_BY_ATTENTION
        }
        self._aliased[layer] = list(aliases.values())
        return {**given, **aliases}

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
                self.cut_after[layer] = write_survivors(residual, self.steps[point])
        else:
            short = self._replay(point, residual) if self.finished else self._advance(point, residual, True)
            if short is not residual:
                residual.data = short
                self._cut_aliases(layer, self.steps[point])
        if not self.finished:
            self._recorder.mlp_begins(layer, self.sequence, residual.shape[1])

    def _cut_aliases(self, layer: int, steps: list[ReductionStep]) -> None:
        for alias in self._aliased.pop(layer, ()):
            for step in steps:
                rows = alias if alias.ndim == 3 else alias.unsqueeze(-1)
                alias.data = rows_at(rows, step.gather).view(*step.gather.shape, *alias.shape[2:])

    def instead_of_after_attention(self, layer: int, hidden: Tensor) -> Tensor:
        """The same stages for blocks without a place between attention and MLP: they act after the whole layer."""
        point = after_attention(layer)
        if self.finished:
            return self._replay(point, hidden)
        self._recorder.mlp_begins(layer, self.sequence, self.sequence.length)
        self.acted_after.add(layer)
        return self._advance(point, hidden)

    def after_layer(self, layer: int, hidden: Tensor) -> Tensor:
        """Cut what autograd did not let us cut before; after the last layer, return to the prompt's length."""
        if not self.finished:
            self.left[layer] = self.sequence
            self.returned[layer] = weakref.ref(hidden)
        if layer in self.cut_after:
            hidden = rows_at(hidden, self.cut_after[layer])
        if layer < self._layers - 1:
            return hidden
        hidden = self._add_planes(layer, hidden)
        return self.sequence.expand_to_prompt(hidden) if self.sequence.version else hidden

    def _advance(self, point: Point, hidden: Tensor, in_place: bool = False) -> Tensor:
        """Let the stages of `point` decide in turn and apply their steps, which are kept for a replay.

        in_place: `hidden` may be overwritten.
        """
        for number in self.decisions.stages_at(point):
            learns = getattr(self.decisions.stages[number], "learns", False)
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                step = self.decisions.ask(number, point, self.sequence, hidden, self.attention.latest)
            if step is not None:
                self.steps.setdefault(point, []).append(step)
                hidden = step.apply_in_place(hidden) if in_place else step.apply(hidden)
                self.deepstack.steps.append(step)
                self._recorder.step(number, self._place(number, point), step, self.sequence, self.decisions.early)
                self.sequence = step.after
        return hidden

    def _replay(self, point: Point, hidden: Tensor) -> Tensor:
        for step in self.steps.get(point, ()):
            hidden = step.apply(hidden)
        return hidden

    def _add_planes(self, layer: int, hidden: Tensor) -> Tensor:
        return self.deepstack.add(layer, hidden, None if self.finished else self.sequence)

    def _place(self, stage: int, point: Point) -> Point:
        """Where a stage acted that is asked at `point`: before the decoder as soon as one picture was merged there."""
        if not self.decisions.early:
            return point
        return INSIDE if self.decisions.stages[stage].stream == "vision" else IN_FRONT

    def saw_attention(self, module: nn.Module, call: AttentionCall) -> None:
        """The attention of the layer that runs now was called."""
        if self._watcher is not None and not self.finished and not self.attention.repeats:
            self._watcher(self._layer, call)
        if not self.finished and self.attention.saw(call, self._layer):
            self._recorder.attention(self._layer, call, self.entered[self._layer].length)

    def weight(self) -> Tensor | None:
        """What the attention call under way adds to the logits of its keys, see `MergedWeights`."""
        return None if self.attention.repeats else self.weights.take(self._layer)

    def finish(self, cache: Any) -> ForwardTrace:
        """The decoder returned, with `cache`; from now on hooks that meet this pass replay it in a backward pass."""
        self.finished = True
        self.inputs.finish()
        tower = None if self.decisions.pictures is None else self.decisions.pictures.trace()
        self.decisions.pictures = None
        self.attention = LastAttention(self.length, None)
        if not torch.is_grad_enabled():
            self.deepstack.clear()
        moved = any(after_attention(layer) in self.steps for layer in self.acted_after)
        return self._recorder.trace(self.reduces, self.past, self.prompt.layout, self.sequence, cache, moved, tower)
