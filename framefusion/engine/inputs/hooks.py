"""Where inputs enter the model: learn the layout of each prompt, and refuse what cannot work before it starts."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.inputs.generation import Generation, PromptSpan
from framefusion.engine.inputs.layouts import Layouts
from framefusion.engine.inputs.prompt import Prompt, real_columns
from framefusion.engine.inputs.prompt_lookup import PROPOSE, words_only
from framefusion.engine.model.calls import by_name, parameters_of
from framefusion.engine.refusals import refuse_continuous_batching, refuse_generation, with_dynamic_cache
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.layout import Layout
    from framefusion.engine.model.copies import Shadows
    from framefusion.engine.model.parts import ModelParts
    from framefusion.engine.vision.run import TowerRun
    from framefusion.models.family import Family

BATCHING = ("generate_batch", "init_continuous_batching")


@dataclass(eq=False)
class Frame:
    """One forward call under way.

    depth: number of its module among the entries, outermost first. given: its inputs by name. begins: whether a prompt
    begins here, rather than being handed on by the frame before. span: what that prompt reads of the prompt of the
    `generate` around it, None for other words. waiting: what the tower saw of the prompt that this one interrupts.
    """

    depth: int
    given: dict[str, Any]
    begins: bool
    span: PromptSpan | None = None
    waiting: list[TowerRun] | None = None


class _Thread(threading.local):
    """The forward calls and the `generate` calls this thread is in, outermost first."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.generations: list[Generation] = []

    @property
    def prompt(self) -> list[Frame]:
        """The forward calls that hand on the innermost prompt."""
        first = next((n for n, frame in reversed(list(enumerate(self.frames))) if frame.begins), 0)
        return self.frames[first:]

    def inputs(self) -> dict[str, Any]:
        """What came with the innermost prompt, the inner calls' word before the outer ones'."""
        return {name: value for frame in self.prompt for name, value in frame.given.items() if value is not None}


class InputHooks:
    """Hooks on the modules that take `input_ids`, and `generate` of the outermost one.

    `generate` is shadowed on the instance because transformers may run the vision tower inside it and then call the
    model without the sizes of its pictures; the bound method underneath stays what it was.
    """

    def __init__(self, parts: ModelParts, family: Family, layout: Layout | None) -> None:
        self.parts = parts
        self.layouts = Layouts(parts, family, layout)
        self._thread = _Thread()

    def attach(self, shadows: Shadows) -> list[Any]:
        """Register the hooks, whose handles are returned, and replace `generate` and its like."""
        handles = []
        for depth, module in enumerate(self.parts.entries):
            entering = self._entering(depth, parameters_of(module))
            handles.append(module.register_forward_pre_hook(entering, with_kwargs=True))
            handles.append(module.register_forward_hook(self._leaving, always_call=True))
        handles += self.layouts.attach()
        for module in self.parts.entries or (self.parts.model,):
            generate: Any = getattr(module, "generate", None)
            if generate is not None:
                shadows.put(module, "generate", self._generating(module, generate))
            propose: Any = getattr(module, PROPOSE, None)
            if generate is not None and propose is not None:
                shadows.put(module, PROPOSE, words_only(propose, placeholder_ids(self.parts.config)))
            for name in BATCHING:
                if hasattr(module, name):
                    shadows.put(module, name, refuse_continuous_batching)
        return handles

    def _generating(self, module: nn.Module, generate: Callable) -> Callable:
        parameters = list(inspect.signature(generate).parameters)

        @functools.wraps(generate)
        def reduced_generate(*args: Any, **kwargs: Any) -> Any:
            given = by_name(parameters, args, kwargs)
            refuse_generation(given)
            kwargs = with_dynamic_cache(given, module, kwargs)
            outermost = not self._thread.generations
            # A reduced draft model generates while another model's pictures wait for its prompt.
            waiting = context.tower_runs()
            if outermost:
                context.set_tower_runs([])
            self._thread.generations.append(Generation.begin(given))
            try:
                return generate(*args, **kwargs)
            finally:
                self._thread.generations.pop()
                if outermost:
                    context.set_tower_runs(waiting)

        return reduced_generate

    def _entering(self, depth: int, names: list[str]) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            given = by_name(names, args, kwargs)
            labels = given.get("labels")
            # One clone for all modules the labels pass through: the outermost computes the loss from what it was given.
            passed_on = any(frame.given.get("labels") is labels for frame in self._thread.frames)
            changed = False
            if isinstance(labels, torch.Tensor) and not passed_on:
                given["labels"], changed = labels.clone().to(_moves_to(module)), True
            self._thread.frames.append(self._frame(depth, given))
            return ((), given) if changed else None

        return hook

    def _frame(self, depth: int, given: dict[str, Any]) -> Frame:
        frames, generations = self._thread.frames, self._thread.generations
        if frames and frames[-1].depth < depth:
            return Frame(depth, given, begins=False)
        span = generations[-1].read_by(given, self.layouts.explains) if generations else None
        frame = Frame(depth, given, begins=True, span=span)
        own = not frames and span is not None and not _brings_pixels(given)
        if not own:
            if frames or generations:
                frame.waiting = context.tower_runs()
            context.set_tower_runs([])
        return frame

    def _leaving(self, module: nn.Module, args: tuple, output: Any) -> None:
        if not self._thread.frames:
            return
        waiting = self._thread.frames.pop().waiting
        if waiting is not None:
            context.set_tower_runs(waiting)
        elif not self._thread.frames and not self._thread.generations:
            context.set_tower_runs([])

    def in_forward(self) -> bool:
        """Whether this thread is in a forward call of the model."""
        return bool(self._thread.frames)

    def in_prompt(self) -> bool:
        """Whether this thread is in a forward call of the model or in its `generate`."""
        return bool(self._thread.frames or self._thread.generations)

    def prompt(self, tokens: Tensor, past: int, given: Mapping[str, Any], flash: bool = False) -> Prompt:
        """What the decoder call with `tokens` (B, L) or (B, L, D) behind `past` cached columns is about."""
        inputs = self._thread.inputs()
        masks = given.get("attention_mask"), inputs.get("attention_mask")
        real = real_columns(*masks, past, tokens.shape[1], flash)
        real = None if real is None else real.to(tokens.device)
        span = next((frame.span for frame in self._thread.prompt), None)
        layout = self._layout(inputs, tokens, past, real, span) if tokens.shape[1] > 1 else None
        return Prompt.of(tokens, given, inputs, layout, real, span)

    def _layout(
        self, inputs: Mapping[str, Any], tokens: Tensor, past: int, real: Tensor | None, span: PromptSpan | None
    ) -> Layout | None:
        other_words = bool(self._thread.generations) and span is None
        if self.layouts.given is not None:
            return None if past or other_words else self.layouts.of_given(*tokens.shape[:2])
        around = [generation.given for generation in self._thread.generations]
        masks = [given.get("attention_mask") for given in (*around, *(f.given for f in self._thread.prompt))]
        return self.layouts.of_call(inputs, tokens, real, span, masks)

    def coming_layout(self) -> Layout | None:
        """Layout of the prompt whose pictures are being encoded, before the decoder is called."""
        frames, generations = self._thread.prompt, self._thread.generations
        if not frames:
            return self.layouts.coming({}, generations[-1] if generations else None)
        span = frames[0].span
        return self.layouts.coming(self._thread.inputs(), None if span is None else span.generation)


def _moves_to(module: nn.Module) -> torch.device | int | str | None:
    """Where accelerate's `device_map` copies the inputs of `module` to, after our hook and out of our sight."""
    return getattr(getattr(module, "_hf_hook", None), "execution_device", None)


def _brings_pixels(given: Mapping[str, Any]) -> bool:
    return any(name.startswith("pixel_values") and value is not None for name, value in given.items())
