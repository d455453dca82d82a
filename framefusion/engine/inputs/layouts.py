"""Where the visual tokens of a call are: by the layout that was given, by ids and sizes, or by embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import LayoutError
from framefusion.core.layout import Layout
from framefusion.engine.inputs.embeddings import EmbeddingHook, replaced
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.inputs.generation import Generation, PromptSpan
    from framefusion.engine.model.parts import ModelParts
    from framefusion.models.family import Family

TOKEN_NAMES = ("_token_id", "_token_index")


class Layouts:
    """Finds the layouts of one model's calls.

    given: the layout of its prompts, where somebody gave one.
    """

    def __init__(self, parts: ModelParts, family: Family, given: Layout | None) -> None:
        self.parts, self.family, self.given = parts, family, given
        self._embeddings = EmbeddingHook(parts.decoder)

    def attach(self) -> list[Any]:
        """Register what has to be seen; returns the handles of its hooks."""
        return [] if placeholder_ids(self.parts.config) else self._embeddings.attach()

    def of_call(
        self,
        inputs: Mapping[str, Any],
        tokens: Tensor,
        real: Tensor | None,
        reading: PromptSpan | None,
        masks: Iterable[Any],
    ) -> Layout | None:
        """Layout of the decoder call with `tokens` (B, L) or (B, L, D), None where it shows no pictures.

        inputs: of the forward calls around it. reading: what it reads of the prompt of the `generate` around it.
        masks: attention masks of the calls around it.
        """
        batch, length = tokens.shape[:2]
        if tokens.is_floating_point() and not placeholder_ids(self.parts.config):
            marked = self._embeddings.marked(tokens, real, masks)
            if marked is not None:
                return self.family.layout(self.parts.config, inputs, marked).expand(batch)
        columns = None if reading is None else reading.columns(length)
        if reading is not None and columns is not None:
            return _wider(self._lay(reading.generation, columns, inputs, batch), length).expand(batch)
        ids = inputs.get("input_ids")
        if ids is None and not tokens.is_floating_point():
            ids = tokens
        if ids is None and inputs.get("inputs_embeds") is not None:
            ids = self._ids_of_placeholders(inputs["inputs_embeds"])
        if ids is None or ids.shape[:2] != (batch, length):
            return None
        return self.family.layout(self.parts.config, {**(reading.generation.inputs if reading else {}), **inputs}, ids)

    def of_given(self, batch: int, length: int) -> Layout:
        """The given layout, for a prompt of `batch` rows and `length` columns."""
        assert self.given is not None
        if length < self.given.length:
            raise LayoutError(
                f"the prompt has {length} columns, its layout describes {self.given.length}",
                hint="give `framefusion.reduce` the layout of the prompt that is run",
            )
        return _wider(self.given.expand(batch), length)

    def coming(self, inputs: Mapping[str, Any], generation: Generation | None) -> Layout | None:
        """Layout of the prompt whose pictures are being encoded, before the decoder is called.

        inputs: of the forward calls around. generation: the `generate` around whose prompt it is.
        """
        if self.given is not None:
            return self.given
        ids = inputs.get("input_ids")
        if ids is not None:
            sizes = {} if generation is None else generation.inputs
            return self.family.layout(self.parts.config, {**sizes, **inputs}, ids)
        if generation is None or generation.ids is None:
            return None
        first, (rows, width) = generation.first_read(), generation.ids.shape
        return self._lay(generation, slice(first, width), {}, rows)

    def _lay(self, generation: Generation, columns: slice, inputs: Mapping[str, Any], batch: int) -> Layout:
        """Layout of some columns of the prompt of a `generate`; those in front of them are cached.

        The sizes that come along are those of the pictures that are read now, or of all pictures of the prompt.
        inputs: of the forward calls inside. batch: its rows, which may be repeated for beams.
        """
        whole = generation.ids
        assert whole is not None
        part, sizes = whole[:, columns], _at_columns(generation.inputs, whole, columns)
        if whole.shape[0] == batch:
            sizes |= _at_columns(inputs, part, slice(0, part.shape[1]))
        try:
            return self.family.layout(self.parts.config, sizes, part)
        except LayoutError:
            if part.shape[1] == whole.shape[1]:
                raise
        return self.family.layout(self.parts.config, generation.inputs, whole).tail(part.shape[1])

    def _ids_of_placeholders(self, embeds: Tensor) -> Tensor:
        """Token ids as far as they matter: placeholders found by their embedding, -1 elsewhere."""
        embed = self.parts.model.get_input_embeddings()
        ids = torch.full(embeds.shape[:2], -1, dtype=torch.long, device=embeds.device)
        for token in placeholder_ids(self.parts.config):
            vector = embed(torch.tensor(token, device=embeds.device)).to(embeds.dtype)
            ids = ids.masked_fill((embeds == vector).all(-1), token)
        return ids

    def explains(self, ids: Tensor, embeds: Tensor) -> bool:
        """Whether `embeds` (B, L, D) are the embeddings of `ids`, features at placeholders aside."""
        ids = ids.to(embeds.device)
        marks = replaced(ids, self._embeddings.words(ids).to(embeds), embeds)
        if marks is None:
            return False
        special = torch.tensor(_special_ids(self.parts.config), device=ids.device)
        return not special.numel() or bool(torch.isin(ids[marks >= 0], special).all())


def _wider(layout: Layout, length: int) -> Layout:
    """The same rows in front of columns that are no prompt: candidates, or tokens generated so far."""
    return Layout(layout.rows, length)


def _at_columns(inputs: Mapping[str, Any], ids: Tensor, columns: slice) -> dict[str, Any]:
    """The same inputs, those with a value for each of the `ids` (B, L) or more cut to some of their columns."""
    rows, width = ids.shape

    def per_column(value: Any) -> bool:
        return (
            isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[0] == rows and value.shape[1] >= width
        )

    return {name: value[:, columns] if per_column(value) else value for name, value in inputs.items()}


def _special_ids(config: Any) -> list[int]:
    """Ids that stand for something else than a word, of pictures and sound; none where pictures have no id."""
    if not placeholder_ids(config):
        return []
    named = {name: value for name, value in vars(config).items() if name.endswith(TOKEN_NAMES)}
    return [*placeholder_ids(config), *(value for value in named.values() if isinstance(value, int))]
