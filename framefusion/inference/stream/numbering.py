"""What processors say about a clip in words and a stream cannot: the numbers of frames, and how many there are.

InternVL's numbers the frames of a clip; a window goes on where the one before ended. SmolVLM's says in front of a clip
how many frames it has and how long it is; of a stream this is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

NUMBER = re.compile(r"(?<=Frame)\d+")
COUNT = re.compile(r"(?<=series of )\S+ (frames from a )\S+ \[H:MM:SS\] (?=video)")


def renumbered(
    inputs: Mapping[str, Any], visual: Tensor, tokenizer: Any, more: int, per_column: tuple[str, ...]
) -> tuple[dict[str, Any], Tensor]:
    """The same columns with every number of a frame raised by `more`, and without a count of frames.

    inputs: of the model. visual: (n,) True at visual columns. per_column: names of inputs with a value for each column.
    """
    ids, pieces, sees = inputs["input_ids"][0], [], []
    for start, stop in _runs(visual):
        piece = ids[start:stop]
        words = None if bool(visual[start]) else _raised(piece, tokenizer, more)
        pieces.append((start, stop, piece if words is None else words))
        sees.append(visual[start : start + 1].expand(len(pieces[-1][2])))
    changed = {name: value for name, value in inputs.items() if name not in per_column}
    for name in per_column:
        if name in inputs:
            changed[name] = torch.cat([_values(inputs[name][0], name, *piece) for piece in pieces])[None]
    return changed, torch.cat(sees)


def _runs(visual: Tensor) -> list[tuple[int, int]]:
    borders = [0, *((visual[1:] != visual[:-1]).nonzero().flatten() + 1).tolist(), len(visual)]
    return list(pairwise(borders))


def _raised(words: Tensor, tokenizer: Any, more: int) -> Tensor | None:
    """Ids of the words with a larger number, None where they bear none or are not what a tokenizer makes of them."""
    text = tokenizer.decode(words, skip_special_tokens=False)
    raised = COUNT.sub(r"\1", NUMBER.sub(lambda found: str(int(found[0]) + more), text))
    if raised == text or _ids(text, tokenizer) != words.tolist():
        return None
    return torch.tensor(_ids(raised, tokenizer), dtype=words.dtype, device=words.device)


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _values(values: Tensor, name: str, start: int, stop: int, ids: Tensor) -> Tensor:
    """Values of a piece: its new ids, or for as many words as these are what stood for the first of them."""
    if name == "input_ids":
        return ids
    given = values[start:stop]
    return given if len(ids) == len(given) else given[:1].expand(len(ids))
