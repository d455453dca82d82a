"""Puts a reduction into a model and takes it out again; opens and closes every forward pass of its decoder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from framefusion.engine import context
from framefusion.engine.attention_names import AttentionTwin
from framefusion.engine.attention_observer import is_flash
from framefusion.engine.decoder.deepstack import take_planes
from framefusion.engine.decoder.forward import Forward
from framefusion.engine.decoder.hooks import hook_layers
from framefusion.engine.decoder.kv_cache import end_forward, wrap_layers
from framefusion.engine.decoder.outputs import expand_outputs
from framefusion.engine.inputs.hooks import InputHooks
from framefusion.engine.model.adapters import hook_adapters
from framefusion.engine.model.cache_names import cache_in
from framefusion.engine.model.calls import by_name, parameters_of
from framefusion.engine.model.copies import DenseCopies, Shadows
from framefusion.engine.model.releases import check_hidden_cache
from framefusion.engine.refusals import refuse_compiled_layers, refuse_fixed_cache
from framefusion.engine.sequence.state import SequenceState
from framefusion.engine.vision.attach import Tower
from framefusion.engine.vision.signals import Pictures, tower_did_not_run

if TYPE_CHECKING:
    from torch import nn

    from framefusion.core.layout import Layout
    from framefusion.core.method import Method
    from framefusion.engine.model.parts import ModelParts
    from framefusion.engine.trace import ForwardTrace
    from framefusion.models.family import Family

LOGITS = "logits_to_keep"


class Engine:
    """One method at work in one model.

    done: called with the trace of every forward pass of the decoder. weighs: as in `LayerInputs`. processor: of the
    model, or None. tower_frames: that the vision tower works on at a time, None for all.
    """

    def __init__(
        self,
        parts: ModelParts,
        method: Method,
        family: Family,
        layout: Layout | None,
        done: Callable[[ForwardTrace], None],
        weighs: bool = False,
        processor: Any = None,
        tower_frames: int | None = None,
    ) -> None:
        self.parts, self.weighs = parts, weighs
        self.stages, self.adapters = method.stages(), method.adapters()
        self.done = done
        self.inputs = InputHooks(parts, family, layout)
        self.tower = Tower.of(parts, self.stages, self.inputs, processor, tower_frames)
        self._parameters = parameters_of(parts.decoder)
        # Passes and caches name the reduction by this: neither may keep the model alive.
        self.owner = object()
        self._handles: list[Any] = []
        self._shadows = Shadows()
        self._twin: AttentionTwin | None = None
        self._copies: DenseCopies | None = None
        self._lock = threading.Lock()

    def attach(self) -> None:
        """Register every hook. On failure nothing stays behind."""
        try:
            self._handles += self.inputs.attach(self._shadows)
            if self.tower is not None:
                self._handles.extend(self.tower.attach(self._shadows))
            decoder = self.parts.decoder
            self._handles.append(decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True))
            self._handles.extend(hook_layers(self.parts))
            self._handles.extend(hook_adapters(self.parts.model, self.adapters))
            self._handles.append(decoder.register_forward_hook(self._after_decoder, always_call=True))
            self._twin = AttentionTwin(self.parts.decoder_config)
            self._copies = DenseCopies(self.parts.model, self._handles, self._shadows)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Remove every trace from the model. Safe to call twice."""
        with self._lock:
            handles, self._handles = self._handles, []
            for handle in handles:
                handle.remove()
            if self._copies is not None:
                self._copies.remove()
                self._copies = None
            self._shadows.restore()
            if self.tower is not None:
                self.tower.detach()
            if self._twin is not None:
                self._twin.remove()
                self._twin = None

    def _before_decoder(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Open a forward pass: what it reads, where its visual tokens are, which stages act."""
        given = by_name(self._parameters, args, kwargs)
        refuse_compiled_layers(self.parts.blocks)
        if self._twin is not None:
            self._twin.renew()
        cache = cache_in(given)
        if cache is None:
            check_hidden_cache(given, type(module).__name__)
        refuse_fixed_cache(cache)
        tokens = given["inputs_embeds"] if given.get("inputs_embeds") is not None else given["input_ids"]
        batch, length = tokens.shape[:2]
        past = 0 if cache is None else int(cache.get_seq_length())
        flash = self._twin is not None and is_flash(self._twin.below)
        prompt = self.inputs.prompt(tokens, past, given, flash)
        sequence = SequenceState.begin(prompt.layout, batch, length, prompt.real, tokens.device)
        stages = self.stages if any(sequence.visual_counts()) and length > 1 else ()
        if stages and isinstance(given.get(LOGITS), int):
            given[LOGITS] = 0  # Gemma 4 would cut the sequence by itself where its layers begin to share keys
        runs = context.tower_runs()
        if stages and self.tower and self.tower.must_run and not runs:
            raise tower_did_not_run()
        forward = Forward(
            self.owner,
            stages,
            sequence,
            prompt,
            past,
            len(self.parts.blocks),
            cache,
            planes=take_planes(given) if stages else None,
            pictures=Pictures(runs, prompt.layout) if self.tower and stages and prompt.layout else None,
            flash=flash,
            positions=given.get("position_ids"),
            weighs=self.weighs,
            watcher=context.watcher(),
        )
        context.enter(forward)
        return (), given

    def _after_decoder(self, module: nn.Module, args: tuple, output: Any) -> Any:
        """Close the forward pass, also after an exception, which shows as an output of None."""
        forward = context.forward()
        if forward is None or forward.owner is not self.owner:
            return None
        context.leave(forward)
        cache, forward.cache = forward.cache, None  # what outlives the pass holds no cache, nor the graph of its keys
        end_forward(cache)
        if cache is not None:
            # Later passes read this prompt from the cache; without one, each of them needs its pictures again.
            context.set_tower_runs([])
        trace = forward.finish(cache)
        if output is None:
            return None
        if not forward.sequence.version:
            self.done(trace)
            return None
        forward.prompt.mask_labels(forward.sequence.removed_columns())
        if cache is not None:
            wrap_layers(cache, forward.inputs.keys, forward.past + forward.length, self.owner)
        self.done(trace)
        return expand_outputs(output, forward, self.parts)
