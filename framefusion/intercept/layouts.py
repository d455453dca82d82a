"""Where the visual tokens of a call are: by the layout that was given, by ids and sizes, or by embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import LayoutError
from framefusion.intercept.embedded import EmbeddingCalls, replaced
from framefusion.layout import Layout
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.intercept.anatomy import Anatomy
    from framefusion.intercept.generation import Generation, Reading
    from framefusion.models.family import Family

TOKEN_NAMES = ("_token_id", "_token_index")


class Layouts:
    """Finds the layouts of one model's calls.

    given: the layout of its prompts, where somebody gave one.
    """

    def __init__(self, anatomy: Anatomy, family: Family, given: Layout | None) -> None:
        self.anatomy, self.family, self.given = anatomy, family, given
        self._embeddings = EmbeddingCalls(anatomy.decoder)

    def attach(self) -> list[Any]:
        """Register what has to be seen; returns the handles of its hooks."""
        return [] if placeholder_ids(self.anatomy.config) else self._embeddings.attach()

    def of_call(
        self,
        inputs: Mapping[str, Any],
        tokens: Tensor,
        real: Tensor | None,
        reading: Reading | None,
        masks: Iterable[Any],
    ) -> Layout | None:
        """Layout of the decoder call with `tokens` (B, L) or (B, L, D), None where it shows no pictures.

        inputs: of the forward calls around it. reading: what it reads of the prompt of the `generate` around it.
        masks: attention masks of the calls around it.
        """
        batch, length = tokens.shape[:2]
        if tokens.is_floating_point() and not placeholder_ids(self.anatomy.config):
            marked = self._embeddings.marked(tokens, real, masks)
            if marked is not None:
                return self.family.layout(self.anatomy.config, inputs, marked).expand(batch)
        part = None if reading is None else reading.ids(length)
        if reading is not None and part is not None:
            sizes = reading.generation.inputs
            if part.shape[0] == batch:
                sizes = {**sizes, **inputs}
            return _wider(self._lay(sizes, part, reading.generation.ids), length).expand(batch)
        ids = inputs.get("input_ids")
        if ids is None and not tokens.is_floating_point():
            ids = tokens
        if ids is None and inputs.get("inputs_embeds") is not None:
            ids = self._ids_of_placeholders(inputs["inputs_embeds"])
        if ids is None or ids.shape[:2] != (batch, length):
            return None
        return self.family.layout(
            self.anatomy.config, {**(reading.generation.inputs if reading else {}), **inputs}, ids
        )

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
            return self.family.layout(self.anatomy.config, {**sizes, **inputs}, ids)
        new = None if generation is None else generation.new_ids()
        return None if generation is None or new is None else self._lay(generation.inputs, new, generation.ids)

    def _lay(self, sizes: Mapping[str, Any], ids: Tensor, whole: Tensor | None) -> Layout:
        """Layout of `ids`, the end of the prompt `whole` whose beginning is cached.

        The sizes that come along are those of the pictures that are read now, or of all pictures of the prompt.
        """
        try:
            return self.family.layout(self.anatomy.config, sizes, ids)
        except LayoutError:
            if whole is None or whole.shape[1] == ids.shape[1]:
                raise
        return self.family.layout(self.anatomy.config, sizes, whole).tail(ids.shape[1])

    def _ids_of_placeholders(self, embeds: Tensor) -> Tensor:
        """Token ids as far as they matter: placeholders found by their embedding, -1 elsewhere."""
        embed = self.anatomy.model.get_input_embeddings()
        ids = torch.full(embeds.shape[:2], -1, dtype=torch.long, device=embeds.device)
        for token in placeholder_ids(self.anatomy.config):
            vector = embed(torch.tensor(token, device=embeds.device)).to(embeds.dtype)
            ids = ids.masked_fill((embeds == vector).all(-1), token)
        return ids

    def explains(self, ids: Tensor, embeds: Tensor) -> bool:
        """Whether `embeds` (B, L, D) are the embeddings of `ids`, features at placeholders aside."""
        ids = ids.to(embeds.device)
        marks = replaced(ids, self._embeddings.words(ids).to(embeds), embeds)
        if marks is None:
            return False
        special = torch.tensor(_special_ids(self.anatomy.config), device=ids.device)
        return not special.numel() or bool(torch.isin(ids[marks >= 0], special).all())


def _wider(layout: Layout, length: int) -> Layout:
    """The same rows in front of columns that are no prompt: candidates, or tokens generated so far."""
    return Layout(layout.rows, length)


def _special_ids(config: Any) -> list[int]:
    """Ids that stand for something else than a word, of pictures and sound; none where pictures have no id."""
    if not placeholder_ids(config):
        return []
    named = {name: value for name, value in vars(config).items() if name.endswith(TOKEN_NAMES)}
    return [*placeholder_ids(config), *(value for value in named.values() if isinstance(value, int))]
