"""After the tower, in front of the language model: each video or picture becomes its survivors, exactly as many as have
room.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from vllm.multimodal.inputs import PlaceholderRange

from framefusion.core.errors import OptionError
from framefusion.integrations.vllm import positions
from framefusion.integrations.vllm.contract import check_engine, let_runner_recompute
from framefusion.integrations.vllm.leave_out import LeavingOut, PictureTower, SequenceTower, can_leave_out, filled
from framefusion.integrations.vllm.pixels import repeated_tokens, repeated_within
from framefusion.integrations.vllm.processor import ENCODED, PASSAGE, PIXELS, RECIPE, span
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.settings import settings_of
from framefusion.integrations.vllm.signals import signals_of
from framefusion.integrations.vllm.tower import Watch, absent_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from framefusion.core.method import VisionSignals


@dataclass(frozen=True)
class Passage:
    """The stretch of the prompt of one item, a video or a picture.

    recipe: its reduction. ids: (P,) token ids without reduction. mask: (P,) which of them are visual.
    first, last: the span from the first visual token to one past the last; text inside it is embedded with the item.
    encoded: (T, rows, columns) bool, units that the tower encodes; of a picture, those that repeat no other.
    """

    recipe: Recipe
    ids: Tensor
    mask: Tensor
    first: int
    last: int
    encoded: Tensor

    @staticmethod
    def read(recipe: Tensor, passage: Tensor, encoded: Tensor) -> Passage:
        """From the fields `RECIPE`, `PASSAGE` and `ENCODED` of an item."""
        ids, visual = passage.cpu()
        mask = visual.bool()
        return Passage(Recipe.unpack(recipe.cpu()), ids, mask, *span(mask), encoded.cpu().bool())

    @property
    def to_encode(self) -> Tensor:
        """(T, rows, columns) bool, units that the tower encodes: of a picture all."""
        return torch.ones_like(self.encoded) if self.recipe.picture else self.encoded

    @property
    def reduced(self) -> int:
        """Slots of the span in the reduced prompt."""
        return self.last - self.first - self.recipe.total + self.recipe.total_kept


class ReducingModel:
    """Mixin in front of one of vLLM's models.

    tower: name of its vision tower. tower_rows: how that is shown units, None where it can only encode all.
    text_model: name of what embeds text.
    """

    reduces = False
    tower = "vision_tower"
    tower_rows: type[LeavingOut] | None = PictureTower
    text_model = "language_model"

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self.reduces = settings_of(vllm_config.model_config.hf_config) is not None
        self.leaving_out: LeavingOut | None = None
        if self.reduces:
            tower = getattr(self, self.tower, None)
            if tower is not None and self.tower_rows is not None and can_leave_out(vllm_config, tower):
                self.leaving_out = self.tower_rows(tower)
            self.prepare(vllm_config)

    def prepare(self, vllm_config: Any) -> None:
        """Called once if this engine reduces."""
        check_engine(vllm_config, three_part_positions=False)

    def embed_multimodal(self, **kwargs: Any) -> Any:
        fields = zip(*(kwargs.pop(name, ()) for name in (RECIPE, PASSAGE, ENCODED)), strict=True)
        passages = [Passage.read(*field) for field in fields] if self.reduces else []
        leaving_out: Any = nullcontext()
        if self.leaving_out is not None:
            leaving_out = self.leaving_out.only([passage.to_encode for passage in passages])
        elif not all(passage.to_encode.all() for passage in passages):
            self.show_everything(kwargs, passages)
        with leaving_out:
            items: Any = super().embed_multimodal(**kwargs)  # type: ignore[misc]
        if not self.reduces or items is None:
            return items
        if not passages:
            return [self.whole(rows) for rows in items]
        seen = self.tower_signals(passages)
        return [
            self.survivors(rows.flatten(0, -2), passage, vision, kwargs, number)
            for number, (rows, passage, vision) in enumerate(zip(items, passages, seen, strict=True))
        ]

    def show_everything(self, kwargs: dict[str, Any], passages: Sequence[Passage]) -> None:
        """Where the tower cannot leave anything out: make whole what came without the units that pixels leave out."""

    def tower_signals(self, passages: Sequence[Passage]) -> Sequence[VisionSignals | None]:
        """What the tower knows about the items just encoded, in order; families whose tower can be read say it."""
        return [None] * len(passages)

    def whole(self, rows: Tensor) -> Tensor:
        """Embeddings of a picture that is not reduced. (n, C) -> what the engine stores."""
        return rows

    def survivors(
        self, rows: Tensor, passage: Passage, vision: VisionSignals | None, kwargs: dict[str, Any], number: int
    ) -> Tensor:
        """(N, C) embeddings of item `number` of this call -> those of its span in the reduced prompt."""
        return self._kept(rows, passage, vision)[0]

    def _kept(self, rows: Tensor, passage: Passage, vision: VisionSignals | None) -> tuple[Tensor, Tensor]:
        """The rows of the reduced span, and which tokens (K,) of the unreduced span they stand for."""
        recipe, device = passage.recipe, rows.device
        mask = passage.mask[passage.first : passage.last]
        visual = mask.nonzero().flatten()
        geometry, rule = recipe.geometry().to(device), RULES[recipe.method]
        if rule.within:
            repeated = repeated_within(passage.encoded)
        else:
            repeated = repeated_tokens(passage.encoded, recipe.rows, recipe.columns)
        seen = vision if rule.tower else None
        plan = recipe.plan(signals_of(rows[:, : self._width()], geometry, seen, repeated))
        values, keep = plan.apply(rows), visual[plan.keep.cpu()]
        text = (~mask).nonzero().flatten()
        if text.numel():
            ids = passage.ids[passage.first : passage.last][text].to(device)
            values = torch.cat([values, self._text_rows(ids, rows)])
            keep, order = torch.cat([keep, text]).sort()
            values = values[order.to(device)]
        if len(values) != passage.reduced:
            raise AssertionError(f"{len(values)} embeddings for {passage.reduced} places in the prompt")
        return values, keep

    def _width(self) -> int:
        """Columns of an embedding that the language model's first layer reads; DeepStack's follow them."""
        return self.config.get_text_config().hidden_size  # type: ignore[attr-defined]

    def _text_rows(self, ids: Tensor, like: Tensor) -> Tensor:
        rows = getattr(self, self.text_model).embed_input_ids(ids)
        return torch.cat([rows, rows.new_zeros(len(ids), like.shape[1] - rows.shape[1])], 1).to(like.dtype)


class WatchingModel(ReducingModel):
    """The same for models whose vision tower encodes every frame by itself and can be watched.

    tower_class_token: the tower puts a class token in front of the patches.
    """

    tower_class_token = False

    def prepare(self, vllm_config: Any) -> None:
        super().prepare(vllm_config)
        self.watch = None
        settings = settings_of(vllm_config.model_config.hf_config)
        if settings is None or not settings.tower_method:
            return
        if vllm_config.parallel_config.tensor_parallel_size > 1:
            raise OptionError(
                "attention scores of the vision tower are spread over several devices",
                hint="serve with --tensor-parallel-size 1, or choose a method without tower scores",
            )
        tower, absent = self.vision_tower, absent_layers(self.config)  # type: ignore[attr-defined]
        self.watch = Watch(tower, self.tower_class_token, absent)

    def tower_signals(self, passages: Sequence[Passage]) -> Sequence[VisionSignals | None]:
        if self.watch is None:
            return super().tower_signals(passages)
        recipes = [passage.recipe for passage in passages]
        return self.watch.take([(recipe.encoded, recipe.rows * recipe.columns, recipe.newline) for recipe in recipes])


class ReducingRopeModel(ReducingModel):
    """The same for models with three-part positions; see `positions.py`.

    positions_from: fields of an item that its positions depend on.
    """

    positions_from: tuple[str, ...] = ("video_grid_thw", "second_per_grid_ts", "image_grid_thw")
    tower = "visual"
    tower_rows: type[LeavingOut] | None = SequenceTower
    supports_multimodal_pruning = True
    # Graphs of the encoder alone would pass by the extra columns.
    supports_encoder_cudagraph = False

    def prepare(self, vllm_config: Any) -> None:
        check_engine(vllm_config, three_part_positions=True)
        let_runner_recompute(vllm_config.model_config.multimodal_config)

    def show_everything(self, kwargs: dict[str, Any], passages: Sequence[Passage]) -> None:
        sizes, side = kwargs["video_grid_thw"].tolist(), self.config.vision_config.spatial_merge_size  # type: ignore[attr-defined]
        encoded = [passage.to_encode for passage in passages]
        kwargs[PIXELS] = filled(kwargs[PIXELS], encoded, sizes, side)

    def whole(self, rows: Tensor) -> Tensor:
        return positions.append_offsets(rows, torch.zeros(3, len(rows), device=rows.device))

    def survivors(
        self, rows: Tensor, passage: Passage, vision: VisionSignals | None, kwargs: dict[str, Any], number: int
    ) -> Tensor:
        values, keep = self._kept(rows, passage, vision)
        fields = {name: SimpleNamespace(data=kwargs[name][number]) for name in self.positions_from if name in kwargs}
        offsets = self._unreduced(passage, fields)[:, passage.first : passage.last]
        offsets = offsets - offsets.amin(1, keepdim=True)
        return positions.append_offsets(values, offsets[:, keep].to(values.device))

    def _unreduced(self, passage: Passage, fields: Any) -> Tensor:
        """(3, P) positions of the passage alone, as the stock model has them."""
        place = PlaceholderRange(0, len(passage.ids), passage.mask)
        modality = "image" if passage.recipe.picture else "video"
        feature = SimpleNamespace(modality=modality, mm_position=place, data=fields)
        stock: Any = super()
        return stock.get_mrope_input_positions(passage.ids.tolist(), [feature])[0]

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[Tensor, int]:
        """Final for all text; the slots of reduced items hold their base in disguise."""
        stock: Any = super()
        if not self.reduces:
            return stock.get_mrope_input_positions(input_tokens, mm_features)
        tokens, features, spans = unreduced_prompt(input_tokens, mm_features)
        whole, _ = stock.get_mrope_input_positions(tokens, features)
        parts, done = [], 0
        for first, last, count in spans:
            parts += [whole[:, done:first], positions.disguise(whole[:, first:last].amin(1), count)]
            done = last
        reduced = torch.cat([*parts, whole[:, done:]], 1)
        return reduced, int(whole.max()) + 1 - len(input_tokens)

    def recompute_mrope_positions(
        self, input_ids: Any, multimodal_embeddings: Sequence[Tensor], mrope_positions: Tensor, num_computed_tokens: int
    ) -> tuple[Sequence[Tensor], Tensor, int]:
        parts = [positions.split_offsets(rows) for rows in multimodal_embeddings]
        slots = torch.zeros(0, dtype=torch.long, device=mrope_positions.device)
        if parts:
            ids = torch.as_tensor(input_ids, device=mrope_positions.device)[num_computed_tokens:]
            pads = (ids == self.config.image_token_id) | (ids == self.config.video_token_id)  # type: ignore[attr-defined]
            slots = pads.nonzero().flatten() + num_computed_tokens
        filled, delta = positions.fill(mrope_positions, slots, [offsets for _, offsets in parts])
        return [rows for rows, _ in parts], filled, delta


def unreduced_prompt(
    input_tokens: list[int], mm_features: list[Any]
) -> tuple[list[int], list[Any], list[tuple[int, int, int]]]:
    """The prompt as it would be without reduction, its features, and the spans (first, last) in it that are reduced,
    each with the slots it has in the reduced prompt."""
    tokens, features, spans, done = [], [], [], 0
    for feature in sorted(mm_features, key=lambda feature: feature.mm_position.offset):
        place = feature.mm_position
        tokens += input_tokens[done : place.offset]
        done, start = place.offset, len(tokens)
        if RECIPE in feature.data:
            passage = Passage.read(*(feature.data[name].data for name in (RECIPE, PASSAGE, ENCODED)))
            # What stands in front may be another number than where the item came from a cache.
            front = 0 if place.is_embed is None else int(place.is_embed.nonzero()[0])
            tokens += input_tokens[done : done + front] + passage.ids[passage.first : passage.last].tolist()
            spans.append((start + front, len(tokens), passage.reduced))
            tokens += input_tokens[done + front + passage.reduced : done + place.length]
            done += place.length
            mask = torch.zeros(len(tokens) - start, dtype=torch.bool)
            mask[front : front + passage.last - passage.first] = passage.mask[passage.first : passage.last]
            place = replace(place, length=len(mask), is_embed=mask)
        features.append(replace(feature, mm_position=replace(place, offset=start)))
    return tokens + input_tokens[done:], features, spans
