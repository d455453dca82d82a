"""Prompt lookup that proposes words alone.

transformers looks up what followed the same words earlier in the prompt, and takes placeholders of pictures for words.
With the prompt itself they reach the model, which then misses their features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

PROPOSE = "_get_candidate_generator"


def words_only(propose: Callable[..., Any], placeholders: Sequence[int]) -> Callable[..., Any]:
    """What makes the candidate generator of a `generate`, so that prompt lookup stops in front of `placeholders`."""

    @functools.wraps(propose)
    def words(*args: Any, **kwargs: Any) -> Any:
        from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

        generator = propose(*args, **kwargs)
        if isinstance(generator, PromptLookupCandidateGenerator):
            candidates = generator.get_candidates

            def get_candidates(input_ids: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Any]:
                proposed, logits = candidates(input_ids, *rest, **named)
                return _words(proposed, input_ids.shape[1], placeholders), logits

            generator.get_candidates = get_candidates
        return generator

    return words


def _words(ids: Tensor, known: int, placeholders: Sequence[int]) -> Tensor:
    """`ids` (1, L) up to the first placeholder behind the first `known` columns."""
    proposed = torch.isin(ids[0, known:], torch.tensor(placeholders, device=ids.device, dtype=ids.dtype))
    return ids[:, : known + int(proposed.nonzero()[0])] if bool(proposed.any()) else ids
