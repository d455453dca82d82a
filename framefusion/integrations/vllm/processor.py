"""Before anything is encoded: how many tokens each item keeps, and the prompt that has room for exactly those.

An item is a video or a picture.

Mixed in front of vLLM's own processor of a family, whose prompts and fields it takes as they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from vllm.multimodal.inputs import MultiModalBatchedField, MultiModalFieldElem
from vllm.multimodal.processing import PromptUpdateDetails

from framefusion.core.errors import LayoutError, OptionError
from framefusion.engine.vision.pixels import UnitGrid, grid_of_picture
from framefusion.integrations.vllm import metrics
from framefusion.integrations.vllm.contract import check_pixels
from framefusion.integrations.vllm.families import KEY, REDUCED
from framefusion.integrations.vllm.pictures import PictureGrid
from framefusion.integrations.vllm.pixels import distinct_units, encoded_units, repeated_tokens
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.rules import RULES, threshold_of
from framefusion.integrations.vllm.settings import FROM_PIXELS, Settings, settings_of
from framefusion.integrations.vllm.tower import check_layer
from framefusion.integrations.vllm.trial import check_decision
from framefusion.models.pixel_range import PixelRange, pixel_range

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "framefusion_recipe"
"""Field of an item: its packed `Recipe`."""
PASSAGE = "framefusion_passage"
"""Field of an item: its stretch of the unreduced prompt, (2, P): token ids, and which of them are visual."""
ENCODED = "framefusion_encoded"
"""Field of an item: (T, rows, columns) uint8, units that are encoded; one for a whole frame where all are."""
PIXELS, PICTURE_PIXELS = "pixel_values_videos", "pixel_values"
RAW = PixelRange((0.0,), (1 / 255,))


class ReducingProcessor:
    """Mixin for a family's processor. Subclasses say what grid of visual tokens a video has, and a picture."""

    _profiling = False

    def video_grid(self, item: Any, tokens: int) -> tuple[tuple[int, int, int], bool]:
        """Frames, rows and columns of the visual tokens of a processed video, and whether a newline closes it."""
        raise NotImplementedError

    def picture_grid(self, item: Any, tokens: int) -> PictureGrid:
        """Where the visual tokens of a processed picture come from."""
        return PictureGrid.flat(tokens)

    def unit_grid(self, pixels: Tensor, grid: tuple[int, int, int]) -> UnitGrid:
        """The units of each frame of a video's pixels."""
        patch = self.info.get_hf_config().vision_config.patch_size  # type: ignore[attr-defined]
        side = patch if isinstance(patch, int) else patch[0]
        return grid_of_picture(pixels, side, grid[1] * grid[2])

    def get_dummy_mm_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Memory is measured, and room is made, for items of which everything is kept."""
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
        check_pixels(settings, config.architectures[0].removeprefix(REDUCED))
        for one in (settings, settings.of_pictures):
            if one is not None and RULES[one.method].tower:
                check_layer(one, config)
        if self._profiling:
            return updates
        for number, item in enumerate(out_mm_kwargs.get("video", ())):
            (update,) = updates["video"][number]
            updates["video"][number] = [self._reduced_video(update, item, settings)]
        if settings.of_pictures is None:
            return updates  # with pictures whole, as they are
        for number, item in enumerate(out_mm_kwargs.get("image", ())):
            (update,) = updates["image"][number]
            updates["image"][number] = [self._reduced_picture(update, item, settings.of_pictures)]
        return updates

    def _maybe_apply_prompt_updates(self, mm_items: Any, mm_res: Any) -> Any:
        """Asked once for each request, whether its items were processed for it or came from a cache."""
        if not self._profiling and getattr(self.info.get_hf_config(), KEY, None) is not None:  # type: ignore[attr-defined]
            metrics.count(mm_res.prompt_updates)
        stock: Any = super()
        return stock._maybe_apply_prompt_updates(mm_items=mm_items, mm_res=mm_res)

    def _reduced_video(self, update: Any, item: Any, settings: Settings) -> Any:
        grid, newline = self.video_grid(item, int(_embedded(update.content).sum()))
        encoded, changed = self._encoded(item, grid, settings)
        recipe = Recipe.write(settings, grid, newline, changed)
        return self._reduced(update, item, recipe, encoded)

    def _reduced_picture(self, update: Any, item: Any, settings: Settings) -> Any:
        grid = self.picture_grid(item, int(_embedded(update.content).sum()))
        if RULES[settings.method].tower and PICTURE_PIXELS not in item:
            raise OptionError(
                f"`{settings.method}` cannot reduce a picture that comes as its embeddings",
                "it goes by the attention of the vision tower, which does not run for them",
                "send the picture, or choose a method without tower scores",
            )
        distinct = self._distinct(item, grid, settings)
        recipe = Recipe.of_picture(settings, grid, int(distinct.sum()))
        return self._reduced(update, item, recipe, distinct)

    def _distinct(self, item: Any, grid: PictureGrid, settings: Settings) -> Tensor:
        """(parts, rows, columns) bool, units of a picture that repeat no other; one for a whole part where pixels do
        not decide."""
        if not RULES[settings.method].within:
            return torch.ones(grid.parts, 1, 1, dtype=torch.bool)
        size = (grid.parts, grid.rows, grid.columns)
        pixels: Any = item[PICTURE_PIXELS].data if PICTURE_PIXELS in item else None
        if pixels is not None and pixels.ndim == 3:
            pixels = pixels[None]  # a family whose pictures are never cut
        units = None if pixels is None else self.unit_grid(pixels, size)
        if units is None or grid.tile_rows or (units.rows, units.columns) != size[1:]:
            raise OptionError(
                f"`{settings.method}` cannot reduce this picture",
                "its tokens are no squares of its pixels: it comes as embeddings, or its tiles are trimmed and resized",
                "choose another method for pictures",
            )
        return distinct_units(pixels, units, self._pixel_range(video=False), threshold_of(settings.options))

    def _reduced(self, update: Any, item: Any, recipe: Recipe, encoded: Tensor) -> Any:
        """The prompt update with room for the survivors; their recipe joins the fields of the item.

        What is kept whole stays as it is, and is the stock model's."""
        passage = torch.tensor(update.content.full)
        mask = _embedded(update.content)
        if recipe.total != int(mask.sum()):
            raise LayoutError(
                f"{recipe.subject} has {int(mask.sum())} placeholders", "its sizes and its prompt do not match"
            )
        if recipe.keeps_all:
            return update
        check_decision(recipe)
        item[RECIPE], item[PASSAGE] = _field(recipe.pack()), _field(torch.stack([passage, mask.long()]))
        item[ENCODED] = _field(encoded.to(torch.uint8))
        first, last = span(mask)
        inner = last - first - int(mask.sum())
        # All of the span is embedded by the model, the text between frames included: which frame a survivor stands in
        # is not known yet.
        placeholder = int(passage[mask.nonzero()[0]])
        kept = [placeholder] * (recipe.total_kept + inner)
        full = [*passage[:first].tolist(), *kept, *passage[last:].tolist()]
        reserved = torch.zeros(len(full), dtype=torch.bool)
        reserved[first : first + len(kept)] = True
        where = Reserved(reserved, (recipe.total, recipe.total_kept))
        return replace(update, content=PromptUpdateDetails(full=full, is_embed=where))

    def _encoded(self, item: Any, grid: tuple[int, int, int], settings: Settings) -> tuple[Tensor, int]:
        """Units of a video that are encoded, and how many tokens behind the first frame show one."""
        frames, rows, columns = grid
        rule = settings.pixel_rule()
        if rule is None:
            return torch.ones(frames, 1, 1, dtype=torch.bool), 0
        if PIXELS not in item:
            raise OptionError(f"keep='{FROM_PIXELS}' needs a video, not its embeddings", hint="give keep as a fraction")
        pixels = item[PIXELS].data
        units = self.unit_grid(pixels, grid)
        encoded = encoded_units(pixels, units, self._pixel_range(video=True), rule)
        if units.grouped and not encoded.all():  # no other process sees, and no cache holds, what is not encoded
            patches = encoded.flatten().repeat_interleave(units.merge**2)
            item[PIXELS] = replace(item[PIXELS], data=pixels[patches])
        repeated = repeated_tokens(encoded, rows, columns)
        own = int((repeated == torch.arange(len(repeated))).sum())
        return encoded, own - rows * columns

    def _pixel_range(self, video: bool) -> PixelRange:
        info: Any = self.info  # type: ignore[attr-defined]
        if getattr(info.ctx.model_config.multimodal_config, "mm_device_do_normalize", False):
            return RAW
        return pixel_range(info.get_hf_config().model_type, info.get_hf_processor(), video=video)


class Reserved:
    """Where the embeddings of an item go, as vLLM asks for it. A class, so that the update can be pickled.

    visual: visual tokens before and after the reduction.
    """

    def __init__(self, reserved: Tensor, visual: tuple[int, int]) -> None:
        self.reserved, self.visual = reserved, visual

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


def _field(data: Tensor) -> MultiModalFieldElem:
    return MultiModalFieldElem(data=data, field=MultiModalBatchedField(keep_on_cpu=True))


def _without(kwargs: Mapping[str, object]) -> dict[str, object]:
    """Options of a request less ours, which no Hugging Face processor knows."""
    return {key: value for key, value in kwargs.items() if key != KEY}
