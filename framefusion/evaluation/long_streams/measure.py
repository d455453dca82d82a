"""Every policy and two controls watch the same streams and answer the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from framefusion.core.options import Count, settle
from framefusion.evaluation.answers import first_named, with_choices
from framefusion.evaluation.long_streams.film import film
from framefusion.evaluation.long_streams.questions import LongQuestion, questions
from framefusion.evaluation.long_streams.world import VISIT, World
from framefusion.evaluation.synthetic_questions.scene import FPS as SHOWN_FPS
from framefusion.evaluation.synthetic_questions.scene import FRAMES as CLIP
from framefusion.inference.stream.session import Recent, Span, stream
from framefusion.inference.tiny import is_embedded

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.stream.session import VideoStream

EVEN, LAST, FRESH = "evenly spread frames", "last window", "fresh short prompt"
CONTROLS = (EVEN, LAST, FRESH)
ANSWER_TOKENS = 4

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Setting:
    """How the streams are watched.

    memory: tokens per layer. window: frames read at a time. recent: newest frames that questions read anew, by default
    as many as the clips that the embedded model was trained on have. context: tokens of the memory that a window is
    read with, by default so many that both are no longer than these clips. span: positions in time that the memory
    takes while a question is asked, beside those of recent frames. tokens_per_frame: that the model makes of a frame,
    by which the controls know how many frames memory and recent frames come to.
    positions: that the model is taken to tell apart, so that streams make theirs contiguous before; by default one and
    a half for every token, which is enough whatever a policy keeps. The configuration of the embedded model promises
    far more than the 32 frames it was trained on.
    """

    memory: Count = 512
    window: Count = 16
    recent: Recent = CLIP
    context: Count | None = None
    span: Span = 4
    tokens_per_frame: Count = 16
    positions: Count | None = None

    def __post_init__(self) -> None:
        settle(self)

    @property
    def frames(self) -> int:
        """That fill the memory, and the recent ones."""
        return max(1, self.memory // self.tokens_per_frame) + self.recent

    @property
    def read_with(self) -> int:
        """Tokens of the memory that a window is read with."""
        return self.context or max(1, CLIP - self.window) * self.tokens_per_frame

    @property
    def limit(self) -> int:
        """Positions that the model is taken to tell apart."""
        return self.positions or self.memory * 3 // 2


@dataclass(frozen=True)
class Answered:
    """One answer. arm: name of a policy, or one of `CONTROLS`."""

    question: LongQuestion
    arm: str
    text: str
    correct: bool


def measure(
    checkpoint: Checkpoint,
    world: World,
    policies: Sequence[Any],
    setting: Setting,
    progress: Progress | None = None,
) -> Iterator[Answered]:
    """Answers of all policies, by name or as they are, and of the controls, to all questions of one stream.

    The stream is shown at the rate of the short yardstick, which the embedded model was trained on: a frame is one step
    in time. A control is a prompt of its own for each moment at which questions are asked; the fresh short prompt, as
    long as a clip of the short yardstick, is asked only about what it can have seen. progress: called with the number
    of frames that were shown.
    """
    advance = progress or (lambda count: None)
    names = [policy if isinstance(policy, str) else type(policy).__name__.lower() for policy in policies]
    with ExitStack() as stack:
        with limited(checkpoint.model, setting.limit):
            streams = {
                name: stack.enter_context(_watched(checkpoint, setting, policy))
                for name, policy in zip(names, policies, strict=True)
            }
        frames, shown = film(world), 0
        for at, group in groupby(questions(world), attrgetter("at")):
            while shown < at:
                count = min(setting.window, at - shown)
                pictures = np.stack([next(frames) for _ in range(count)])
                for video in streams.values():
                    video.feed(pictures, [(shown + number) / SHOWN_FPS for number in range(count)])
                shown += count
                advance(count)
            asked = list(group)
            for name, video in streams.items():
                yield from _answers(checkpoint, video, name, asked)
            yield from _of_controls(checkpoint, world, asked, setting)


@contextmanager
def limited(model: Any, positions: int) -> Iterator[None]:
    """Within the block the configuration of `model` says that it tells so many positions apart."""
    config = model.config.get_text_config(decoder=True)
    before = config.max_position_embeddings
    config.max_position_embeddings = positions
    try:
        yield
    finally:
        config.max_position_embeddings = before


def _of_controls(
    checkpoint: Checkpoint, world: World, asked: Sequence[LongQuestion], setting: Setting
) -> Iterator[Answered]:
    at = asked[0].at
    chosen = {
        EVEN: np.unique(np.linspace(0, at - 1, min(setting.frames, at)).round().astype(int)).tolist(),
        LAST: list(range(max(0, at - setting.frames), at)),
        FRESH: list(range(max(0, at - CLIP), at)),
    }
    for name, numbers in chosen.items():
        about = [question for question in asked if name != FRESH or question.about - VISIT >= at - CLIP]
        if not about:
            continue
        memory, window = len(numbers) * setting.tokens_per_frame, len(numbers)
        with stream(checkpoint.model, checkpoint.processor, memory=memory, policy="none", window=window) as video:
            video.feed(np.stack(list(film(world, numbers))), [number / SHOWN_FPS for number in range(len(numbers))])
            yield from _answers(checkpoint, video, name, about)


def _watched(checkpoint: Checkpoint, setting: Setting, policy: Any) -> VideoStream:
    return stream(
        checkpoint.model,
        checkpoint.processor,
        memory=setting.memory,
        policy=policy,
        window=setting.window,
        recent=setting.recent,
        context=setting.read_with,
        span=setting.span,
    )


def _answers(checkpoint: Checkpoint, video: VideoStream, arm: str, asked: Sequence[LongQuestion]) -> Iterator[Answered]:
    for question in asked:
        named = question.text if is_embedded(checkpoint.name) else with_choices(question.text, question.choices)
        text = video.ask(named, max_new_tokens=ANSWER_TOKENS).text
        yield Answered(question, arm, text, first_named(text, question.choices) == question.answer)
