"""Before anything is encoded: how many tokens each video keeps, and the prompt that has room for exactly those.

Mixed in front of vLLM's own processor of a family, whose prompts and fields it takes as they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from vllm.multimodal.inputs import MultiModalBatchedField, MultiModalFieldElem
from vllm.multimodal.parse import VideoProcessorItems
from vllm.multimodal.processing import PromptUpdateDetails

from framefusion.core.errors import LayoutError, OptionError
from framefusion.integrations.vllm.families import KEY
from framefusion.integrations.vllm.pixels import changed_places
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.settings import FROM_PIXELS, Settings, settings_of
from framefusion.integrations.vllm.trial import check_decision

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "framefusion_recipe"
"""Field of a video: its packed `Recipe`."""
PASSAGE = "framefusion_passage"
"""Field of a video: its stretch of the unreduced prompt, (2, P): token ids, and which of them are visual."""


class ReducingProcessor:
    """Mixin for a family's processor. Subclasses say what grid of visual tokens a video has."""

    _profiling = False

    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        """Frames, rows and columns of the visual tokens of a processed video, and whether a newline closes it."""
        raise NotImplementedError

    def get_dummy_mm_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Memory is measured, and room is made, for videos of which everything is kept."""
        self._profiling = True
        try:
            return super().get_dummy_mm_inputs(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._profiling = False

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, object]) -> Any:
        return super()._apply_hf_processor_main(mm_items, _without(hf_kwargs))  # type: ignore[misc]

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Any:
        return super()._get_mm_fields_config(hf_inputs, _without(hf_processor_mm_kwargs))  # type: ignore[misc]

    def _get_mm_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Any:
        stock: Any = super()
        updates = stock._get_mm_prompt_updates(mm_items, _without(hf_processor_mm_kwargs), out_mm_kwargs)
        config = self.info.get_hf_config()  # type: ignore[attr-defined]
        settings = settings_of(config)
        given = hf_processor_mm_kwargs.get(KEY)
        if settings is None:
            if given is not None:
                raise OptionError(
                    f"this request sets `{KEY}`, but the engine does not reduce", hint="start it with that setting too"
                )
            return updates
        if given is not None:
            settings = settings.for_request(given)
        clips = mm_items.get("video")
        items = out_mm_kwargs.get("video", ())
        for number, item in enumerate(items):
            frames = None
            if isinstance(clips, VideoProcessorItems):
                frames = clips.get(number)
            (update,) = updates["video"][number]
            updates["video"][number] = [self._reduced(update, item, frames, settings)]
        return updates

    def _reduced(self, update: Any, item: Any, frames: Any, settings: Settings) -> Any:
        """The prompt update with room for the survivors; their recipe joins the fields of the item."""
        passage = torch.tensor(update.content.full)
        mask = _embedded(update.content)
        grid, newline = self.video_grid(item, int(mask.sum()))
        changed = 0
        if settings.keep == FROM_PIXELS and not self._profiling:
            if frames is None:
                raise OptionError(
                    f"keep='{FROM_PIXELS}' needs a video, not its embeddings", hint="give keep as a fraction"
                )
            changed = changed_places(_pictures(frames), grid, settings.pixel_change)
        recipe = Recipe.write(None if self._profiling else settings, grid, newline, changed)
        if recipe.total != int(mask.sum()):
            raise LayoutError(
                f"a video of {grid} visual tokens has {int(mask.sum())} placeholders",
                "its sizes and its prompt do not match",
            )
        check_decision(recipe)
        item[RECIPE], item[PASSAGE] = _field(recipe.pack()), _field(torch.stack([passage, mask.long()]))
        first, last = span(mask)
        inner = last - first - int(mask.sum())
        # All of the span is embedded by the model, the text between frames included: which frame a survivor stands in
        # is not known yet.
        placeholder = int(passage[mask.nonzero()[0]])
        kept = [placeholder] * (recipe.total_kept + inner)
        full = [*passage[:first].tolist(), *kept, *passage[last:].tolist()]
        reserved = torch.zeros(len(full), dtype=torch.bool)
        reserved[first : first + len(kept)] = True
        return replace(update, content=PromptUpdateDetails(full=full, is_embed=_Reserved(reserved)))


class _Reserved:
    """Where the embeddings of a video go, as vLLM asks for it. A class, so that the update can be pickled."""

    def __init__(self, reserved: Tensor) -> None:
        self.reserved = reserved

    def __call__(self, full: Sequence[int]) -> Tensor:
        return self.reserved


def span(mask: Tensor) -> tuple[int, int]:
    """First visual token and one past the last, from (P,) bool."""
    where = mask.nonzero().flatten()
    return int(where[0]), int(where[-1]) + 1


def _embedded(content: Any) -> Tensor:
    """(P,) bool: which tokens of a prompt update are visual."""
    if content.is_embed is None:
        return torch.ones(len(content.full), dtype=torch.bool)
    return content.is_embed(content.full)


def _pictures(video: Any) -> Any:
    """The frames of a video that may come with what is known about it."""
    return video[0] if isinstance(video, tuple) else video


def _field(data: Tensor) -> MultiModalFieldElem:
    return MultiModalFieldElem(data=data, field=MultiModalBatchedField(keep_on_cpu=True))


def _without(kwargs: Mapping[str, object]) -> dict[str, object]:
    """Options of a request less ours, which no Hugging Face processor knows."""
    return {key: value for key, value in kwargs.items() if key != KEY}
