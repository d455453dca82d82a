"""Which column of a decoder call asks: the last one of the prompt, in front of everything that is an answer to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.layout import Layout

IGNORED_LABEL = -100
KEPT_LOGITS = ("logits_to_keep", "num_logits_to_keep")


def query_columns(
    shape: tuple[int, int],
    device: torch.device,
    real: Tensor | None,
    layout: Layout | None,
    limits: Iterable[Tensor | int],
) -> Tensor:
    """(B,) column of each row whose attention scores tokens.

    It is the last one that is not padding and lies behind none of `limits`, (B,) or one for all rows; yet no column in
    front of the last visual token, which would see only part of the pictures.
    """
    batch, length = shape
    column = torch.arange(length, device=device).expand(batch, length)
    allowed = torch.ones_like(column, dtype=torch.bool) if real is None else real.to(device)
    seen = torch.zeros(batch, dtype=torch.long, device=device)
    if layout is not None:
        last = [int(place.columns[-1]) if place.columns.numel() else 0 for _, place in layout.rows]
        seen = torch.tensor(last, device=device)
    for limit in limits:
        limit = torch.as_tensor(limit, device=device).expand(batch)
        allowed = allowed & (column <= torch.maximum(limit, seen)[:, None])
    return torch.where(allowed, column, 0).amax(1)


def before_targets(labels: Tensor, layout: Layout) -> Tensor:
    """(B,) the column in front of the first target of each row. Labels of visual tokens are none."""
    target = labels != IGNORED_LABEL
    for number, (_, placement) in enumerate(layout.rows):
        target[number, placement.columns.to(target.device)] = False
    column = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    return torch.where(target, column, labels.shape[1]).amin(1) - 1


def first_kept(inputs: Mapping[str, Any], length: int) -> int | None:
    """The first column whose logits are asked for, None when all are: what follows it is scored, not asked.

    The logits of a column are those of the token behind it, so the first column belongs to the prompt.
    """
    kept = next((inputs[name] for name in KEPT_LOGITS if inputs.get(name) is not None), 0)
    if isinstance(kept, torch.Tensor) and kept.ndim:
        columns = torch.arange(length)[kept.cpu()]
    else:
        columns = torch.arange(length)[kept if isinstance(kept, slice) else slice(-int(kept), None)]
    return (int(columns.min()) or None) if columns.numel() else None


def prompt_end(
    generation: Mapping[str, Any],
    frames: Iterable[Mapping[str, Any]],
    length: int,
    past: int,
    embed: Callable[[Tensor], Tensor],
) -> int:
    """Columns of a call inside `generate` up to the end of its prompt: what follows was generated or is a draft.

    generation: what `generate` was given. frames: what the forward calls around the decoder were given, outermost
    first. embed: ids (P,) -> (P, D). Columns that the ids do not explain count: virtual tokens in front of the prompt,
    or a prefix that is in the cache from the beginning. A call on other words has an end of its own, its last column.
    """
    if generation.get("inputs_embeds") is not None:
        return _within(int(generation["inputs_embeds"].shape[1]) - past, length)
    prompt = generation.get("input_ids")
    if prompt is None:
        return length
    prompt = prompt[0]
    guesses = sorted({past, len(prompt) - length, 0}, key=lambda s: (-_overlap(s, length, len(prompt)), s != past))
    for frame in frames:
        if frame.get("input_ids") is not None:
            shift = _shift(frame["input_ids"][0], prompt, guesses)
            return length if shift is None else _within(len(prompt) - shift, length)
        if frame.get("inputs_embeds") is not None:
            call, expected = frame["inputs_embeds"][0], embed(prompt)
            begins = (call == expected[0].to(call)).all(-1).nonzero().flatten().tolist()
            shift = _shift(call, expected, [*guesses, *(-column for column in begins)])
            return length if shift is None else _within(len(prompt) - shift, length)
    return _within(len(prompt) - past, length)


def _within(end: int, length: int) -> int:
    return min(length, max(1, end))


def _overlap(shift: int, length: int, prompt: int) -> int:
    return min(length, prompt - shift) - max(0, -shift)


def _shift(call: Tensor, prompt: Tensor, guesses: Iterable[int]) -> int | None:
    """The s of `guesses` with column c of the call the prompt's column c + s wherever both exist, None if none fits."""
    for shift in guesses:
        first, count = max(0, -shift), _overlap(shift, len(call), len(prompt))
        if count > 0:
            part = prompt[first + shift : first + shift + count].to(call)
            if torch.equal(call[first : first + count], part):
                return shift
    return None
