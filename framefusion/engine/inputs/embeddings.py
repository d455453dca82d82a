"""Prompts that reach the decoder as embeddings: which of their columns are visual.

Models whose code comes with their checkpoint embed the ids of a prompt, write visual features over placeholders or
splice them in, and hand over the result alone. The ids are seen at the embedding call; columns whose embeddings are not
those of the ids are visual. Nothing has to be known of the model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.models.layout_rules import NEWLINE_MARK, TEXT_MARK

if TYPE_CHECKING:
    from torch import Tensor, nn

FEW = 8


class EmbeddingHook:
    """The ids of the last prompt that went through the decoder's embedding: of this thread, else of any.

    Some models generate in a thread of its own. Ids of another prompt do no harm: they do not fit the embeddings.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._mine = threading.local()
        self._last: Tensor | None = None

    def attach(self) -> list[Any]:
        """Register the hook; returns its handle."""
        return [self._embedding().register_forward_hook(self._embedded)]

    def _embedding(self) -> nn.Module:
        return self._decoder.get_input_embeddings()

    def _embedded(self, module: nn.Module, args: tuple, output: Any) -> None:
        ids = args[0] if args else None
        if not getattr(self._mine, "asking", False) and ids is not None and ids.ndim == 2 and ids.shape[1] > 1:
            self._mine.ids = self._last = ids.detach().clone()

    def marked(self, embeds: Tensor, real: Tensor | None, masks: Iterable[Any]) -> Tensor | None:
        """(B, L) the id that a patch replaced, NEWLINE_MARK or TEXT_MARK; None where the ids do not explain `embeds`.

        embeds: (B * repeats, L, D), rows repeated for beams. real: (B * repeats, L) False at padding. masks: attention
        masks of the calls around, among them that of the ids if they were padded.
        """
        for ids in (getattr(self._mine, "ids", None), self._last):
            if ids is None or embeds.shape[0] % ids.shape[0]:
                continue
            step = embeds.shape[0] // ids.shape[0]
            mask = next((m for m in masks if isinstance(m, torch.Tensor) and m.shape == ids.shape), None)
            marks = self._explain(ids, mask, embeds[::step], None if real is None else real[::step])
            if marks is not None:
                return marks
        return None

    @torch.no_grad()
    def words(self, ids: Tensor) -> Tensor:
        """(B, L, D) the embeddings of ids that nobody asks about; those outside the vocabulary have no own one."""
        embedding = self._embedding()
        self._mine.asking = True
        try:
            return embedding(ids.clamp(0, getattr(embedding, "num_embeddings", int(ids.max()) + 1) - 1))
        finally:
            self._mine.asking = False

    @torch.no_grad()
    def _explain(self, ids: Tensor, mask: Tensor | None, embeds: Tensor, real: Tensor | None) -> Tensor | None:
        words = self.words(ids).to(embeds)
        if ids.shape[1] == embeds.shape[1]:
            marks = replaced(ids, words, embeds, real)
            if marks is not None:
                return marks
        marks = torch.full(embeds.shape[:2], TEXT_MARK, dtype=torch.long, device=embeds.device)
        for row in range(ids.shape[0]):
            own = ids.new_ones(ids.shape[1], dtype=torch.bool) if mask is None else mask[row].bool()
            inside = torch.ones_like(marks[row], dtype=torch.bool) if real is None else real[row].to(marks.device)
            pieces = spliced(ids[row, own], words[row, own], embeds[row, inside])
            if pieces is None:
                return None
            marks[row, inside] = pieces
        return marks


def replaced(ids: Tensor, words: Tensor, embeds: Tensor, real: Tensor | None = None) -> Tensor | None:
    """Marks (B, L) of embeddings written over those of placeholders; None where that is not what happened.

    words: (B, L, D) the ids' own embeddings. real: (B, L) False at padding. An id is replaced wherever it stands or
    nowhere, and the last column is text: ids of another prompt meet neither.
    """
    differs = (words != embeds).any(-1)
    if real is not None:
        differs &= real.to(differs.device)
    if bool(differs[:, -1].any()) or bool(torch.isin(ids[differs], ids[~differs]).any()):
        return None
    return torch.where(differs, ids, TEXT_MARK)


def spliced(ids: Tensor, words: Tensor, embeds: Tensor) -> Tensor | None:
    """Marks (L,) of one row in which each placeholder became many columns; None where the text is not found.

    ids: (L0,). words: (L0, D) their own embeddings. embeds: (L, D), where those of placeholders do not occur. The last
    column is text.
    """
    media = {token for token in ids.unique().tolist() if not bool(_at(words[ids == token][:1], embeds).any())}
    if int(ids[-1]) in media:
        return None
    marks = torch.full((embeds.shape[0],), TEXT_MARK, dtype=torch.long, device=embeds.device)
    here = 0
    for before, first, last in _pieces(ids.tolist(), media):
        text = words[first:last]
        start = _find(text, embeds, here, before is not None, last == ids.shape[0])
        if start is None:
            return None
        if before is not None:
            marks[here:start] = before
            _mark_newlines(marks[here:start], embeds[here:start], words)
        here = start + text.shape[0]
    return marks if here == embeds.shape[0] else None


def _pieces(ids: Sequence[int], media: set[int]) -> Iterator[tuple[int | None, int, int]]:
    """The placeholder in front of each piece of text, None for the first, and where the piece begins and ends.

    Placeholders without text between them count as one.
    """
    before, first = None, 0
    for column, token in enumerate([*ids, None]):
        if token is None or token in media:
            if column > first or token is None:
                yield before, first, column
                before = None
            before, first = (token if before is None else before), column + 1


def _find(text: Tensor, embeds: Tensor, here: int, after_picture: bool, final: bool) -> int | None:
    """Column at which `text` (n, D) begins, at `here` or behind the picture that begins there."""
    length = text.shape[0]
    if not after_picture:
        candidates = [here]
    elif final:
        candidates = [embeds.shape[0] - length]
    else:
        starts = _at(text[:1], embeds).nonzero().flatten()
        candidates = starts[starts > here].tolist()
        # A newline that is text stands behind the one that ends a picture.
        doubled = [column for column in candidates if column - 1 in candidates]
        candidates = doubled + candidates
    inside = (column for column in candidates if here <= column <= embeds.shape[0] - length)
    return next((column for column in inside if torch.equal(embeds[column : column + length], text)), None)


def _mark_newlines(marks: Tensor, embeds: Tensor, words: Tensor) -> None:
    """Pictures end in an embedding that is a word's, or that repeats: after every frame the same."""
    if not embeds.shape[0]:
        return
    same = _at(embeds[-1:], embeds)
    if int(same.sum()) > 1 or bool(_at(embeds[-1:], words).any()):
        marks[same] = NEWLINE_MARK


def _at(vector: Tensor, embeds: Tensor) -> Tensor:
    """(L,) True where `embeds` (L, D) equals `vector` (1, D); a few channels rule most columns out."""
    maybe = (embeds[:, :FEW] == vector[:, :FEW]).all(-1)
    maybe[maybe.clone()] = (embeds[maybe] == vector).all(-1)
    return maybe
