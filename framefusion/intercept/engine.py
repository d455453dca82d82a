"""Puts a reduction into a model and takes it out again; owns everything that lives between its prompts."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import CompiledModelError, StaticCacheError
from framefusion.intercept import active, scores
from framefusion.intercept.cache import wrap_layers
from framefusion.intercept.cache_names import cache_in
from framefusion.intercept.call import Call
from framefusion.intercept.copies import DenseCopies
from framefusion.intercept.entry import Entry, mask_labels
from framefusion.intercept.features import FeatureStage
from framefusion.intercept.implementation import Observed
from framefusion.intercept.outputs import expand_outputs
from framefusion.intercept.pictures import Pictures, tower_did_not_run
from framefusion.intercept.points import hook_layers
from framefusion.intercept.releases import LAYER_MASK, LAYER_PLANES, PLANE_MASK, PLANES, check_hidden_cache
from framefusion.intercept.stream import Stream
from framefusion.intercept.tower import Tower
from framefusion.method import before
from framefusion.stage import ProjectorStage, VisionStage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.intercept.anatomy import Anatomy
    from framefusion.layout import Layout
    from framefusion.method import Method, Stage
    from framefusion.models.family import Family

TAIL = "logits_to_keep"


class Engine:
    """One method at work in one model.

    done: called with every finished call that reduced or could have reduced something.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        method: Method,
        family: Family,
        layout: Layout | None,
        done: Callable[[Call], None],
    ) -> None:
        self.anatomy = anatomy
        self.stages = method.stages()
        self.done = done
        self.entry = Entry(anatomy, family, layout)
        looks = any(_looks_at_tower(stage) for stage in self.stages)
        self.tower = Tower(anatomy.entries, self.entry.in_prompt, self.entry.in_forward) if looks else None
        self._parameters = list(inspect.signature(type(anatomy.decoder).forward).parameters)[1:]
        self._handles: list[Any] = []
        self._observed: Observed | None = None
        self._copies: DenseCopies | None = None
        self._lock = threading.Lock()

    def attach(self) -> None:
        """Register every hook. On failure nothing stays behind."""
        try:
            self._handles += self.entry.attach()
            if self.tower is not None:
                self._handles.extend(self.tower.attach(self._feature_stage(), self._tower_stage()))
            decoder = self.anatomy.decoder
            self._handles.append(decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True))
            self._handles.extend(hook_layers(self.anatomy))
            self._handles.append(decoder.register_forward_hook(self._after_decoder, always_call=True))
            self._observed = Observed(self.anatomy.decoder_config)
            self._copies = DenseCopies(self.anatomy.model, self._handles, self.entry.shadowed)
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
            self.entry.detach()
            if self.tower is not None:
                self.tower.detach()
            if self._observed is not None:
                self._observed.remove()
                self._observed = None

    def _feature_stage(self) -> FeatureStage | None:
        """At the projector, unless the prompt is reduced before it is this stage's turn."""
        for stage in self.stages:
            if isinstance(stage, ProjectorStage):
                return FeatureStage(stage, self.entry.coming_layout)
            if before(0) in stage.points(len(self.anatomy.blocks)):
                return None
        return None

    def _tower_stage(self) -> VisionStage | None:
        return next((stage for stage in self.stages if isinstance(stage, VisionStage)), None)

    def _before_decoder(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        given = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        _refuse_compiled_layers(self.anatomy)
        if self._observed is not None:
            self._observed.renew()
        cache = cache_in(given)
        if cache is None:
            check_hidden_cache(given, type(module).__name__)
        if getattr(cache, "is_compileable", False):
            raise StaticCacheError(
                f"a {type(cache).__name__} cannot hold a reduced prompt",
                "its layers have one fixed size, reduced layers have sizes of their own",
                'use the default cache: drop `cache_implementation="static"`',
            )
        tokens = given["inputs_embeds"] if given.get("inputs_embeds") is not None else given["input_ids"]
        past = 0 if cache is None else int(cache.get_seq_length())
        prompt = self.entry.prompt(tokens, past, given)
        stream = Stream.begin(prompt.layout, tokens.shape[0], tokens.shape[1], prompt.real, tokens.device)
        stages = self.stages if any(stream.visual_counts()) and tokens.shape[1] > 1 else ()
        if stages and isinstance(given.get(TAIL), int):
            given[TAIL] = 0  # Gemma 4 would cut the sequence by itself where its layers begin to share keys
        planes = _take_planes(given, stream) if stages else []
        if stages and self._tower_stage() is not None and not active.tower_calls():
            raise tower_did_not_run()
        pictures = Pictures(active.tower_calls(), prompt.layout) if self.tower and stages and prompt.layout else None
        flash = self._observed is not None and scores.is_flash(self._observed.below)
        positions = given.get("position_ids")
        call = Call(self, stages, stream, past, prompt, len(self.anatomy.blocks), planes, pictures, flash, positions)
        call.cache = cache
        active.enter(call)
        call.clock.start(tokens.device)
        return (), given

    def _after_decoder(self, module: nn.Module, args: tuple, output: Any) -> Any:
        call = active.call()
        if call is None or call.owner is not self:
            return None
        active.leave(call)
        if call.cache is not None:
            # Later calls read this prompt from the cache; without one, each of them needs its pictures again.
            active.forget_tower()
        call.finish()
        if output is None:
            return None
        mask_labels(call.prompt, call.stream)
        if call.reduces:
            call.count_states()
        if call.stream.version and call.cache is not None:
            wrap_layers(call.cache, call.keys_read, call.past + call.query_length, self)
        call.cache = None  # the report outlives the cache, and its keys may hold a graph that leads back to the call
        self.done(call)
        return expand_outputs(output, call, self.anatomy) if call.stream.version else None


def _refuse_compiled_layers(anatomy: Anatomy) -> None:
    for block in anatomy.blocks:
        if getattr(block.layer, "_compiled_call_impl", None) is not None:
            raise CompiledModelError(
                "a decoder layer of the reduced model is compiled",
                "the sequence gets shorter inside the layer, which compiled code does not follow",
                "compile what lies inside the layers, after `reduce`: `layer.mlp.compile()`",
            )


def _looks_at_tower(stage: Stage) -> bool:
    return stage.stream in ("features", "vision") or "vision" in stage.needs


def _take_planes(given: dict[str, Any], stream: Stream) -> list[list[Tensor]]:
    """Take DeepStack features out of the decoder's hands, whose loop would add them at full length.

    Returns them by the layer they are added behind, and by row, (N, D) each, aligned with the row's visual tokens;
    nothing for a layer without. Granite adds some in front of its first layer, where the prompt is whole.
    """
    if given.get(PLANES) is not None and given.get(PLANE_MASK) is not None:
        planes, mask = given[PLANES], given[PLANE_MASK]
        given[PLANES] = given[PLANE_MASK] = None
    elif given.get(LAYER_PLANES):
        by_layer, mask = given[LAYER_PLANES], given[LAYER_MASK][..., 0]
        planes = [by_layer.get(layer) for layer in range(1, max(by_layer) + 1)]
        given[LAYER_PLANES] = {0: by_layer[0]} if 0 in by_layer else None
    else:
        return []
    counts = mask.sum(1).tolist()
    return [[] if plane is None else list(torch.split(plane, counts)) for plane in planes]
