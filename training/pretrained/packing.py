"""Several questions behind one picture or clip: each sees that and itself only, as if it were asked alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from framefusion.evaluation.training.examples import IGNORED
from training.pretrained.halves import IMAGE_TOKEN
from training.pretrained.questions import Question

# What segment numbers say: part of the prompt's beginning, and nothing at all; questions count from 1.
PREFIX, PADDING = 0, -1


@dataclass(frozen=True)
class Words:
    """Token ids around and between pictures and questions, as the chat template writes them.

    picture: the id whose embeddings the projector replaces. answer_end: ends an answer.
    """

    processor: Any
    tokens: int

    def ids(self, text: str) -> list[int]:
        return list(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prefix(self, frames: int) -> list[int]:
        """Everything in front of a question."""
        return self.ids("<|im_start|>user\n" + (IMAGE_TOKEN * self.tokens + "\n") * frames)

    def segment(self, question: Question) -> tuple[list[int], list[int]]:
        """The question up to where its answer begins, and the answer."""
        asked = self.ids(f"{question.text}<|im_end|>\n<|im_start|>assistant\n")
        return asked, self.ids(f"{question.answer}<|im_end|>")


def pack(words: Words, frames: int, asked: Sequence[Question]) -> dict[str, torch.Tensor]:
    """One row: ids, segment, position and labels (L,) each. A label is the token that should come next."""
    ids = words.prefix(frames)
    segment, position, labels = [PREFIX] * len(ids), list(range(len(ids))), [IGNORED] * len(ids)
    first = len(ids)
    for number, question in enumerate(asked, 1):
        before, answer = words.segment(question)
        ids += before + answer
        count = len(before) + len(answer)
        segment += [number] * count
        position += range(first, first + count)
        labels += [IGNORED] * (len(before) - 1) + answer + [IGNORED]
    rows = {"ids": ids, "segment": segment, "position": position, "labels": labels}
    return {name: torch.tensor(row) for name, row in rows.items()}


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch (B, L) of packed rows, padded on the right; features (B, V, D)."""
    longest = max(len(row["ids"]) for row in rows)
    fill = {"ids": 0, "segment": PADDING, "position": 0, "labels": IGNORED}
    found = {
        name: torch.stack(
            [torch.nn.functional.pad(row[name], (0, longest - len(row[name])), value=value) for row in rows]
        )
        for name, value in fill.items()
    }
    return {**found, "features": torch.stack([row["features"] for row in rows])}


def mask_of(segment: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, L) -> (B, 1, L, L), what is added to attention logits: a question sees the beginning and itself, causally."""
    same = (segment[:, :, None] == segment[:, None]) | (segment[:, None] == PREFIX)
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool).tril()
    return torch.zeros(1, dtype=dtype).masked_fill(~(same & causal)[:, None], torch.finfo(dtype).min)
