"""Examples as inputs of a model: the prompt as it is asked, the answer behind it, and labels on the answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from torch.utils.data import Dataset

from framefusion.core.errors import CheckpointError
from framefusion.core.newest import Newest
from framefusion.core.ops.recent import digest
from framefusion.inference.answer.prompt import build_prompt

if TYPE_CHECKING:
    from framefusion.evaluation.training.course import Course
    from framefusion.inference.answer.checkpoint import Checkpoint

IGNORED = -100
PIXELS = "pixel_values"
REMEMBERED = 32
"""Clips whose pixels are kept for further questions."""

IDS, MASK, LABELS = "input_ids", "attention_mask", "labels"
CLIP = "clip"
"""In an example, and in a batch as a list of them: what tells its pixels from others."""


class Examples(Dataset):
    """A course as inputs of `checkpoint`. frames: to read of each video."""

    def __init__(self, checkpoint: Checkpoint, course: Course, frames: int) -> None:
        self.checkpoint, self.course, self.frames = checkpoint, course, frames
        self.end = end_of(checkpoint)
        self.collate = Collate()
        self._pixels: Newest[tuple[Any, dict[str, Any]]] = Newest(REMEMBERED)

    @property
    def device(self) -> torch.device:
        return self.checkpoint.model.device

    @property
    def ordered(self) -> bool:
        return getattr(self.course, "questions", 1) > 1

    def __len__(self) -> int:
        return len(self.course)

    def __getitem__(self, number: int) -> dict[str, Any]:
        example = self.course.example(number)
        made = build_prompt(self.checkpoint, example.clip(self.frames), example.question)
        prompt = {**made, **self._same(example.media, made)}
        tokenizer = self.checkpoint.processor.tokenizer
        answer = [*tokenizer(example.answer, add_special_tokens=False)[IDS], self.end]
        return with_answer(prompt, answer)

    def _same(self, clip: Any, prompt: dict[str, Any]) -> dict[str, Any]:
        """What of `prompt` does not depend on the question, as the tensors it was the last time for the same clip."""
        found = self._pixels.get(id(clip)) or self._pixels.keep(id(clip), (clip, _told(pixels_of(prompt))))
        return found[1]


def pixels_of(inputs: dict[str, Any]) -> dict[str, Any]:
    """Those of a prompt's or a batch's inputs that hold pixels."""
    return {name: value for name, value in inputs.items() if name.startswith(PIXELS)}


def _told(pixels: dict[str, Any]) -> dict[str, Any]:
    return {**pixels, CLIP: tuple(digest(value) for value in pixels.values())}


def end_of(checkpoint: Checkpoint) -> int:
    """The token that ends an answer. Raises CheckpointError."""
    config, tokenizer = checkpoint.model.generation_config, checkpoint.processor.tokenizer
    ends = config.eos_token_id if config.eos_token_id is not None else tokenizer.eos_token_id
    if ends is None:
        raise CheckpointError(
            f"{checkpoint.name} has no token that ends an answer", hint="name one in generation_config.json"
        )
    return int(ends[0] if isinstance(ends, Sequence) else ends)


def with_answer(prompt: dict[str, Any], answer: Sequence[int]) -> dict[str, Any]:
    """Inputs (1, L) of one prompt with the answer's tokens behind it, and labels on these."""
    ids = prompt[IDS]
    new = torch.tensor([list(answer)], dtype=ids.dtype, device=ids.device)
    found = {name: _longer(name, value, ids.shape, new.shape[1]) for name, value in prompt.items()}
    found[IDS] = torch.cat([ids, new], 1)
    found[LABELS] = torch.cat([torch.full_like(ids, IGNORED), new], 1)
    found.setdefault(MASK, torch.ones_like(found[IDS]))
    return found


def _longer(name: str, value: Any, shape: torch.Size, count: int) -> Any:
    """Inputs with a column per token get columns for the answer."""
    per_token = isinstance(value, torch.Tensor) and value.shape == shape
    return pad(value, (0, count), value=1 if name == MASK else 0) if per_token else value


class Collate:
    """One batch of examples; shorter rows are padded on the right. Pictures of all rows follow one another.

    What is joined of the same tensors as in the batch before is the same tensor again, so that nothing is encoded anew.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[list[torch.Tensor], torch.Tensor]] = {}

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        longest = max(example[IDS].shape[1] for example in examples)
        batch = {
            name: self._joined(
                name, [_padded(name, example[name], example[IDS].shape, longest) for example in examples]
            )
            for name in examples[0]
            if name != CLIP
        }
        return {**batch, CLIP: [example[CLIP] for example in examples]}

    def _joined(self, name: str, parts: list[torch.Tensor]) -> torch.Tensor:
        before, joined = self._last.get(name, ([], parts[0]))
        if len(before) != len(parts) or any(one is not other for one, other in zip(before, parts, strict=True)):
            joined = torch.cat(parts)
        self._last[name] = parts, joined
        return joined


def _padded(name: str, value: torch.Tensor, shape: torch.Size, longest: int) -> torch.Tensor:
    if value.shape != shape:
        return value
    return pad(value, (0, longest - shape[1]), value=IGNORED if name == LABELS else 0)


class Remembering:
    """Batches with the pixels of the batch before where their clips are the same: as the same tensors.

    A batch that comes from another process has new ones, and the tower would encode them anew.
    """

    def __init__(self) -> None:
        self._clips: list[Any] | None = None
        self._pixels: dict[str, Any] = {}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch without what tells its clips."""
        given = {name: value for name, value in batch.items() if name != CLIP}
        if CLIP in batch and batch[CLIP] == self._clips:
            return {**given, **self._pixels}
        self._clips = batch.get(CLIP)
        self._pixels = pixels_of(given)
        return given
