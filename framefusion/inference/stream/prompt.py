"""Frames and questions as columns: what a window adds to the prompt, and what a question puts behind it.

The processor of the model writes whole prompts. What stands in front of the first frame is read once, with the first
window; later windows bring what the processor writes between two frames, and their frames; what stands behind the last
frame comes with the question, and is forgotten with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from framefusion.core.errors import PromptError, UnsupportedModelError
from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.answer.prompt import build_prompt, takes_video
from framefusion.inference.stream.numbering import renumbered
from framefusion.inference.stream.policies.policy import WORDS
from framefusion.inference.video.clip import Clip
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from torch import Tensor

ANY_QUESTION = "?"
PER_COLUMN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of a stream, all of one size. pictures: (T, H, W, 3) uint8. seconds: T times."""

    pictures: np.ndarray
    seconds: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.seconds)

    def part(self, start: int, stop: int | None = None) -> Frames:
        return Frames(self.pictures[start:stop], self.seconds[start:stop])


@dataclass(frozen=True, eq=False)
class Columns:
    """What the model reads next. inputs: for its forward call, ids and what has a value for each of them included.

    step, place: (n,) of each column: its time step within these columns and its number there, from `WORDS` on for
    words, which belong to the step they introduce. times: (n,) seconds of the step, -1 for words. tail: visual columns
    behind the last step that close a clip and do not stay. joins: as for `Planes.of_window`.
    """

    inputs: dict[str, Any]
    step: Tensor
    place: Tensor
    times: Tensor
    tail: int
    joins: bool

    @property
    def shapes(self) -> tuple[Any, ...]:
        """What windows must have in common to be read as the rows of one batch."""
        return tuple((name, tuple(value.shape), value.dtype) for name, value in sorted(self.inputs.items()))

    @property
    def staying(self) -> int:
        """Columns without those that close a clip."""
        return int(self.inputs["input_ids"].shape[1]) - self.tail


class PromptWriter:
    """Columns of one model's streams, through its processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.checkpoint = Checkpoint(type(model).__name__, model, processor)
        stated = getattr(getattr(processor, "video_processor", None), "temporal_patch_size", None)
        self.per_step = stated if isinstance(stated, int) and takes_video(self.checkpoint) else 1
        self._placeholders = torch.tensor(placeholder_ids(model.config))
        self._tail: int | None = None
        self._joins = False
        self._word: int | None = None

    def window(self, frames: Frames, before: Frames | None, steps: int) -> Columns:
        """The columns of the next frames.

        before: the last step of the window before, None for the first window. steps: in all windows before.
        """
        inputs = self._prompt(frames)
        visual = self._visual(inputs)
        tail, joins = self._shape(frames)
        places = visual.nonzero().flatten()
        first, last = int(places[0]), int(places[-1]) + 1
        if before is None:
            return self._columns(*self._raised(cut(inputs, 0, last), visual[:last], 0), frames, tail, joins)
        between = {} if joins else self._between(before, frames)
        content = cut(inputs, first, last)
        visual = visual[first:last]
        if between:
            # The words were written for the second frame of a clip, those behind them for a clip of its own.
            parts = self._raised(between, torch.zeros(between["input_ids"].shape[1], dtype=torch.bool), steps - 1)
            rest, visual = self._raised(content, visual, steps)
            content = rest | {name: torch.cat([parts[0][name], rest[name]], 1) for name in PER_COLUMN if name in rest}
            visual = torch.cat([parts[1], visual])
        return self._columns(content, visual, frames, tail, joins)

    def _raised(self, inputs: dict[str, Any], visual: Tensor, steps: int) -> tuple[dict[str, Any], Tensor]:
        return renumbered(inputs, visual, self.checkpoint.processor.tokenizer, steps, PER_COLUMN)

    @property
    def word(self) -> int:
        """The id of some word."""
        if self._word is None:
            ids = self.checkpoint.processor.tokenizer("a", add_special_tokens=False)["input_ids"]
            self._word = int(ids[0]) if len(ids) else 0
        return self._word

    def words(self, ids: Tensor) -> str:
        """What ids say."""
        return str(self.checkpoint.processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def question(self, frames: Frames | None, question: str) -> Tensor:
        """(1, n) ids of what stands behind the last frame. frames: the last step, None before there is one."""
        if frames is None:
            raise PromptError("nothing was fed yet", "a question is about frames", "call `feed` first")
        inputs = self._prompt(frames, question)
        last = int(self._visual(inputs).nonzero()[-1])
        return inputs["input_ids"][:, last + 1 :]

    def _prompt(self, frames: Frames, question: str = ANY_QUESTION) -> dict[str, Any]:
        return build_prompt(self.checkpoint, clip_of(frames), question)

    def _visual(self, inputs: Mapping[str, Any]) -> Tensor:
        return torch.isin(inputs["input_ids"][0].cpu(), self._placeholders)

    def _shape(self, frames: Frames) -> tuple[int, bool]:
        """How many visual columns close a clip, and whether its steps follow each other without a word."""
        if self._tail is None:
            # Noise, since some processors leave out what repeats.
            noise = np.random.default_rng(0).integers(0, 256, (2 * self.per_step, *frames.pictures.shape[1:]), np.uint8)
            both = Frames(noise, repeated(frames, 2 * self.per_step).seconds)
            one, two = self._visual(self._prompt(both.part(0, self.per_step))), self._visual(self._prompt(both))
            self._tail = max(0, 2 * int(one.sum()) - int(two.sum()))
            places, parts = two.nonzero().flatten(), one.nonzero().flatten()
            apart = int(places[-1] - places[0]) - len(places), int(parts[-1] - parts[0]) - len(parts)
            self._joins = apart[0] == apart[1]
        return self._tail, self._joins

    def _between(self, before: Frames, frames: Frames) -> dict[str, Any]:
        """What the processor writes between the last step of one window and the first of the next."""
        first = repeated(frames, self.per_step)
        earlier = repeated(before, self.per_step).seconds
        inputs = self._prompt(Frames(np.concatenate([first.pictures] * 2), (*earlier, *first.seconds)))
        places = self._visual(inputs).nonzero().flatten()
        half = (len(places) - (self._tail or 0)) // 2
        return cut(inputs, int(places[half - 1]) + 1, int(places[half]))

    def _columns(self, inputs: dict[str, Any], visual: Tensor, frames: Frames, tail: int, joins: bool) -> Columns:
        steps = -(-len(frames) // self.per_step)
        per_step, left = divmod(int(visual.sum()) - tail, steps)
        if left:
            raise UnsupportedModelError(
                f"{self.checkpoint.name} cannot remember a stream",
                "its processor leaves out tokens of some frames, so that these have no places of their own",
                "take a model whose frames of one size have one number of tokens; docs/stream.md lists families",
            )
        number = visual.long().cumsum(0) - 1
        step = torch.where(visual, number, number + 1).div(per_step, rounding_mode="floor").clamp(0, steps - 1)
        column = torch.arange(len(visual))
        words = column - torch.where(visual, column, -1).cummax(0).values - 1
        place = torch.where(visual, number % per_step, WORDS + words)
        seconds = torch.tensor(frames.seconds[:: self.per_step], dtype=torch.float64)
        times = torch.where(visual, seconds[step], -1.0)
        return Columns(inputs, step, place, times, tail, joins)


def repeated(frames: Frames, count: int) -> Frames:
    """The first `count` frames, the last one repeated where there are fewer."""
    missing = max(0, count - len(frames))
    pictures = np.concatenate([frames.pictures[:count], *[frames.pictures[-1:]] * missing])
    return Frames(pictures, (*frames.seconds[:count], *frames.seconds[-1:] * missing))


def clip_of(frames: Frames) -> Clip:
    """Frames as a clip whose times are those of the stream."""
    seconds = frames.seconds
    spacing = (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else 0.0
    rate = 1 / spacing if spacing > 0 else 1.0
    total = round(seconds[-1] * rate) + 1
    return Clip(frames.pictures, seconds, rate, total / rate, total, "stream", tuple(range(len(seconds))))


def cut(inputs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    """The same inputs for some of their columns, without the mask of a single row."""
    return {
        name: value[:, start:stop] if name in PER_COLUMN else value
        for name, value in inputs.items()
        if name != "attention_mask"
    }
