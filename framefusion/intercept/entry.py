"""Where inputs enter the model: learn the layout of each prompt, and refuse what cannot work before it starts."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import LayoutError
from framefusion.intercept import active
from framefusion.intercept.asking import IGNORED_LABEL, before_targets, first_kept, prompt_end, query_columns
from framefusion.intercept.embedded import EmbeddingCalls
from framefusion.intercept.packed import refuse_packed_rows
from framefusion.intercept.refusals import refuse_continuous_batching, refuse_generation, with_dynamic_cache
from framefusion.layout import Layout
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.intercept.anatomy import Anatomy
    from framefusion.intercept.stream import Stream
    from framefusion.models.family import Family

BATCHING = ("generate_batch", "init_continuous_batching")


@dataclass(frozen=True)
class Prompt:
    """What is known about one decoder call.

    layout: of its columns, None when it brings no visual tokens. real: (B, L) True where not padding, None when nothing
    is. query_columns: (B,) column whose attention scores tokens. labels: (B, L) the clone the loss will read, or None.
    """

    layout: Layout | None
    real: Tensor | None
    query_columns: Tensor
    labels: Tensor | None


class _Thread(threading.local):
    """Inputs of the forward calls this thread is in, outermost first, and of the `generate` around them."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.generation: list[dict[str, Any]] = []


class Entry:
    """Hooks on the modules that take `input_ids`, and `generate` of the outermost one.

    `generate` is shadowed on the instance because transformers may run the vision tower inside it and then call the
    model without the sizes of its pictures; the bound method underneath stays what it was.
    """

    def __init__(self, anatomy: Anatomy, family: Family, layout: Layout | None) -> None:
        self.anatomy = anatomy
        self.family = family
        self.layout = layout
        self._thread = _Thread()
        self._embeddings = EmbeddingCalls(anatomy.decoder)
        self._shadowed: list[tuple[nn.Module, str, Any]] = []

    def attach(self) -> list[Any]:
        """Register the hooks; returns their handles."""
        handles = []
        for module in self.anatomy.entries:
            names = list(inspect.signature(type(module).forward).parameters)[1:]
            handles.append(module.register_forward_pre_hook(self._entering(names), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leaving, always_call=True))
        if not placeholder_ids(self.anatomy.config):
            handles += self._embeddings.attach()
        for module in self.anatomy.entries or (self.anatomy.model,):
            generate: Any = getattr(module, "generate", None)
            if generate is not None:
                self._shadow(module, "generate", self._generating(module, generate))
            for name in BATCHING:
                if hasattr(module, name):
                    self._shadow(module, name, refuse_continuous_batching)
        return handles

    def detach(self) -> None:
        for module, name, own in self._shadowed:
            delattr(module, name)
            if own is not None:
                setattr(module, name, own)
        self._shadowed = []

    def _shadow(self, module: nn.Module, name: str, function: Callable) -> None:
        self._shadowed.append((module, name, module.__dict__.get(name)))
        setattr(module, name, function)

    def _generating(self, module: nn.Module, generate: Callable) -> Callable:
        parameters = list(inspect.signature(generate).parameters)

        @functools.wraps(generate)
        def reduced_generate(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip(parameters, args, strict=False)), **kwargs}
            refuse_generation(given)
            kwargs = with_dynamic_cache(given, module, kwargs)
            if given.get("input_ids") is None:
                given["input_ids"] = given.get("inputs")
            outermost = not self._thread.generation
            # A reduced draft model generates while another model's pictures wait for its prompt.
            waiting = active.tower_calls()
            if outermost:
                active.forget_tower()
            self._thread.generation.append(given)
            try:
                return generate(*args, **kwargs)
            finally:
                self._thread.generation.pop()
                if outermost:
                    active.remember_tower(waiting)

        return reduced_generate

    def _entering(self, names: list[str]) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            labels = given.get("labels")
            # One clone for all modules the labels pass through: the outermost computes the loss from what it was given.
            passed_on = any(frame.get("labels") is labels for frame in self._thread.frames)
            changed = False
            if isinstance(labels, torch.Tensor) and not passed_on:
                given["labels"], changed = labels.clone().to(_moves_to(module)), True
            if not self._thread.frames and (not self._thread.generation or _brings_pixels(given)):
                active.forget_tower()
            self._thread.frames.append(given)
            return ((), given) if changed else None

        return hook

    def _leaving(self, module: nn.Module, args: tuple, output: Any) -> None:
        if self._thread.frames:
            self._thread.frames.pop()
        if not self._thread.frames and not self._thread.generation:
            active.forget_tower()

    def in_forward(self) -> bool:
        """Whether this thread is in a forward call of the model."""
        return bool(self._thread.frames)

    def in_prompt(self) -> bool:
        """Whether this thread is in a forward call of the model or in its `generate`."""
        return bool(self._thread.frames or self._thread.generation)

    def prompt(self, tokens: Tensor, past: int, given: Mapping[str, Any]) -> Prompt:
        """What the decoder call with `tokens` (B, L) or (B, L, D) behind `past` cached columns is about."""
        inputs: dict[str, Any] = {}
        for frame in self._thread.frames:
            inputs.update({name: value for name, value in frame.items() if value is not None})
        batch, length = tokens.shape[:2]
        real = _real_columns(given.get("attention_mask"), inputs.get("attention_mask"), length)
        real = None if real is None else real.to(tokens.device)
        layout = self._layout(inputs, tokens, past, real) if length > 1 else None
        visual = layout if layout is not None and any(layout.visual_tokens) else None
        if visual is not None:
            passed = {**inputs, **{name: value for name, value in given.items() if value is not None}}
            refuse_packed_rows(passed, visual, real)
        limits = () if visual is None else self._limits(inputs, visual, length, past)
        query = query_columns((batch, length), tokens.device, real, layout, limits)
        return Prompt(layout, real, query, inputs.get("labels"))

    def _layout(self, inputs: Mapping[str, Any], tokens: Tensor, past: int, real: Tensor | None) -> Layout | None:
        batch, length = tokens.shape[:2]
        if self.layout is not None:
            return self._given_layout(batch, length, past)
        if tokens.is_floating_point() and not placeholder_ids(self.anatomy.config):
            masks = [given.get("attention_mask") for given in (*self._thread.generation, *self._thread.frames)]
            marked = self._embeddings.marked(tokens, real, masks)
            if marked is not None:
                return self.family.layout(self.anatomy.config, inputs, marked).expand(batch)
        generation = self._thread.generation[-1] if self._thread.generation else {}
        whole = generation.get("input_ids")
        outer = {name: value for name, value in generation.items() if value is not None}
        ids = inputs.get("input_ids")
        if ids is None and whole is not None and whole.shape[1] == length and not past:
            # `generate` embedded the prompt and handed it on to the language model's own `generate`.
            return self.family.layout(self.anatomy.config, outer, whole).expand(batch)
        if ids is None and not tokens.is_floating_point():
            ids = tokens
        if ids is None and inputs.get("inputs_embeds") is not None:
            ids = self._ids_of_placeholders(inputs["inputs_embeds"])
        if ids is None or ids.shape[:2] != (batch, length):
            return None
        sizes_left_out = whole is not None and whole.shape[0] != batch
        if whole is None:
            return self.family.layout(self.anatomy.config, inputs, ids)
        if sizes_left_out or whole.shape[1] > length:
            layout = self.family.layout(self.anatomy.config, outer, whole).expand(batch)
            return layout.tail(length) if whole.shape[1] > length else Layout(layout.rows, length)
        return self.family.layout(self.anatomy.config, {**outer, **inputs}, ids)

    def coming_layout(self) -> Layout | None:
        """Layout of the prompt whose pictures are being encoded, before the decoder is called."""
        inputs: dict[str, Any] = {}
        for source in (*self._thread.generation[-1:], *self._thread.frames):
            inputs.update({name: value for name, value in source.items() if value is not None})
        ids = inputs.get("input_ids")
        if self.layout is not None or ids is None:
            return self.layout
        return self.family.layout(self.anatomy.config, inputs, ids)

    def _given_layout(self, batch: int, length: int, past: int) -> Layout | None:
        assert self.layout is not None
        if past:
            return None
        if length < self.layout.length:
            raise LayoutError(
                f"the prompt has {length} columns, its layout describes {self.layout.length}",
                hint="give `framefusion.reduce` the layout of the prompt that is run",
            )
        return Layout(self.layout.expand(batch).rows, length)

    def _ids_of_placeholders(self, embeds: Tensor) -> Tensor | None:
        """Token ids as far as they matter: placeholders found by their embedding, -1 elsewhere."""
        embed = self.anatomy.model.get_input_embeddings()
        ids = torch.full(embeds.shape[:2], -1, dtype=torch.long, device=embeds.device)
        for token in placeholder_ids(self.anatomy.config):
            vector = embed(torch.tensor(token, device=embeds.device)).to(embeds.dtype)
            ids = ids.masked_fill((embeds == vector).all(-1), token)
        return ids

    def _limits(self, inputs: Mapping[str, Any], layout: Layout, length: int, past: int) -> Iterator[Tensor | int]:
        """Columns behind which nothing belongs to the prompt any more, as `generate`, labels and logits tell."""
        if self._thread.generation:
            embed = self.anatomy.model.get_input_embeddings().forward  # its hooks would take this for a call
            yield prompt_end(self._thread.generation[-1], self._thread.frames, length, past, embed) - 1
        labels = inputs.get("labels")
        if labels is not None and labels.shape[1] == length:
            yield before_targets(labels, layout)
        kept = first_kept(inputs, length)
        if kept is not None:
            yield kept


def mask_labels(prompt: Prompt, stream: Stream) -> None:
    """Labels on columns whose own state no longer exists do not count."""
    if prompt.labels is None or not stream.version:
        return
    removed = stream.removed_columns()
    if prompt.real is not None:
        removed = removed & prompt.real.to(removed.device)
    prompt.labels.masked_fill_(removed.to(prompt.labels.device), IGNORED_LABEL)


def _moves_to(module: nn.Module) -> torch.device | int | str | None:
    """Where accelerate's `device_map` copies the inputs of `module` to, after our hook and out of our sight."""
    return getattr(getattr(module, "_hf_hook", None), "execution_device", None)


def _brings_pixels(given: Mapping[str, Any]) -> bool:
    return any(name.startswith("pixel_values") and value is not None for name, value in given.items())


def _real_columns(mask: Any, outer_mask: Any, length: int) -> Tensor | None:
    """(B, L) True where the call's columns are not padding; None when none of them is."""
    for candidate in (mask, outer_mask):
        if isinstance(candidate, torch.Tensor) and candidate.ndim == 2:
            real = candidate[:, -length:].to(torch.bool)
            return None if bool(real.all()) else real
    if isinstance(mask, dict):
        mask = next((part for part in mask.values() if part is not None), None)
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        itself = torch.diagonal(mask[:, 0, -length:, -length:], dim1=-2, dim2=-1)
        real = itself if itself.dtype == torch.bool else itself > torch.finfo(itself.dtype).min / 2
        return None if bool(real.all()) else real
    return None
