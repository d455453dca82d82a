"""What is known about the prompt of one forward pass, from its inputs and those of the calls around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.inputs.packed import refuse_packed_rows
from framefusion.engine.inputs.query_column import IGNORED_LABEL, before_targets, first_kept, query_columns
from framefusion.engine.sequence.masks import as_boolean

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout
    from framefusion.engine.inputs.generation import PromptSpan


@dataclass(frozen=True)
class Prompt:
    """What is known about the prompt of one forward pass of the decoder.

    layout: of its columns, None when it brings no visual tokens. real: (B, L) True where not padding, None when nothing
    is. query_columns: (B,) column whose attention scores tokens. labels: (B, L) the clone the loss will read, or None.
    """

    layout: Layout | None
    real: Tensor | None
    query_columns: Tensor
    labels: Tensor | None

    def mask_labels(self, removed: Tensor) -> None:
        """Labels on columns whose own state no longer exists do not count. removed: (B, L) True there."""
        if self.labels is not None:
            removed = removed if self.real is None else removed & self.real.to(removed.device)
            self.labels.masked_fill_(removed.to(self.labels.device), IGNORED_LABEL)

    @staticmethod
    def of(
        tokens: Tensor,
        given: Mapping[str, Any],
        inputs: Mapping[str, Any],
        layout: Layout | None,
        real: Tensor | None,
        span: PromptSpan | None,
    ) -> Prompt:
        """Raises PackedRowsError if a row with visual tokens holds several samples.

        tokens: (B, L) or (B, L, D). given: inputs of the decoder. inputs: of the calls around it. span: what it reads
        of the prompt of the `generate` around it.
        """
        batch, length = tokens.shape[:2]
        visual = layout if layout is not None and any(layout.visual_tokens) else None
        if visual is not None:
            refuse_packed_rows({**inputs, **without_none(given)}, visual, _in_the_prompt(real, tokens, span))
        limits = () if visual is None else _limits(inputs, visual, length, span)
        query = query_columns((batch, length), tokens.device, real, layout, limits)
        return Prompt(layout, real, query, inputs.get("labels"))


def without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that say something."""
    return {name: value for name, value in given.items() if value is not None}


def real_columns(mask: Any, outer_mask: Any, past: int, length: int, flash: bool = False) -> Tensor | None:
    """(B, L) True where the columns of a call, `length` behind `past` cached ones, are not padding; None if none is.

    A padding mask may have more columns than cache and call together. transformers then reads its first ones, but in
    front of a flash kernel its last ones, and so do we.
    """
    for candidate in (mask, outer_mask):
        if isinstance(candidate, torch.Tensor) and candidate.ndim == 2:
            end = candidate.shape[1] if flash else min(past + length, candidate.shape[1])
            real = candidate[:, max(0, end - length) : end].to(torch.bool)
            return None if bool(real.all()) else real
    if isinstance(mask, dict):
        mask = next((part for part in mask.values() if part is not None), None)
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        itself = torch.diagonal(mask[:, 0, -length:, -length:], dim1=-2, dim2=-1)
        real = as_boolean(itself)
        return None if bool(real.all()) else real
    return None


def _in_the_prompt(real: Tensor | None, tokens: Tensor, span: PromptSpan | None) -> Tensor | None:
    """`real` (B, L) without what `generate` wrote: behind padding on the right its positions start again."""
    end = tokens.shape[1] if span is None else span.end(tokens.shape[1])
    if end == tokens.shape[1]:
        return real
    real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if real is None else real.clone()
    real[:, end:] = False
    return real


def _limits(inputs: Mapping[str, Any], layout: Layout, length: int, span: PromptSpan | None) -> Iterator[Tensor | int]:
    """Columns behind which nothing belongs to the prompt any more, as `generate`, labels and logits tell."""
    if span is not None:
        yield span.end(length) - 1
    labels = inputs.get("labels")
    if labels is not None and labels.shape[1] == length:
        yield before_targets(labels, layout)
    kept = first_kept(inputs, length)
    if kept is not None:
        yield kept
