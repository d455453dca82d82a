"""Both answers to one question, word by word, and everything there is to show of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import LayoutError
from framefusion.evaluation.view.scene import scene_of
from framefusion.inference.answer.answer import Answer, ask, shows_times, warm_up
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.tiny.known import remarks

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.view.scene import Scene
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip


@dataclass(frozen=True)
class Progress:
    """How far both answers have come.

    doing: what is under way, "" at the end. words: of the answers so far. dense, reduced: answers that are complete.
    scene: what became of the tokens; undrawn: why there is no map. before: milliseconds of what is the same for both.
    timed: the model is large enough for its times to say something about its tokens. notes: on clip and question.
    """

    doing: str
    words: dict[str, str]
    dense: Answer | None = None
    reduced: Answer | None = None
    scene: Scene | None = None
    undrawn: LayoutError | None = None
    before: dict[str, float] = field(default_factory=dict)
    timed: bool = False
    notes: tuple[str, ...] = ()


def answers(checkpoint: Checkpoint, clip: Clip, question: str, method: Method, new_tokens: int) -> Iterator[Progress]:
    """Dense, then reduced, so that neither takes time from the other.

    Each of them is warmed up by a short run that is not shown, where times are worth comparing.

    Raises what `build_prompt` and `ask` raise.
    """
    timed = shows_times(checkpoint)
    now = Progress("making the prompt", {}, timed=timed)
    yield now
    started = time.perf_counter()
    inputs = build_prompt(checkpoint, clip, question)
    now = replace(now, before={"processor": (time.perf_counter() - started) * 1e3})
    now = replace(now, notes=tuple(remarks(checkpoint.name, [clip], question)))
    method = method.for_family(checkpoint.family)
    done: dict[str, Answer] = {}
    for name, chosen in (("dense", None), ("reduced", method)):
        if timed:
            yield replace(now, doing=f"warming up, {name}")
            warm_up(checkpoint, inputs, chosen)
        now = replace(now, doing=f"answering, {name}", words={**now.words, name: ""})
        yield now
        for part in streamed(checkpoint, inputs, chosen, new_tokens):
            if isinstance(part, Answer):
                done[name] = part
                words = {**now.words, name: part.text}
                now = replace(now, words=words, dense=done.get("dense"), reduced=done.get("reduced"))
            else:
                now = replace(now, words={**now.words, name: now.words[name] + part})
            yield now
    now = replace(now, doing="drawing the map")
    yield now
    try:
        scene = scene_of(checkpoint, (clip,), question, inputs, method, done["reduced"], done["dense"])
        yield replace(now, doing="", scene=scene)
    except LayoutError as error:
        yield replace(now, doing="", undrawn=error)


def streamed(
    checkpoint: Checkpoint, inputs: dict[str, Any], method: Method | None, new_tokens: int
) -> Iterator[str | Answer]:
    """The words of an answer as they come, and at last the answer. Whoever stops listening stops the model."""
    parts: SimpleQueue[str | Answer | BaseException] = SimpleQueue()
    streamer = _streamer(checkpoint.processor.tokenizer, parts)

    def work() -> None:
        try:
            parts.put(ask(checkpoint, inputs, method, new_tokens, streamer))
        except BaseException as error:
            parts.put(error)

    worker = Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            part = parts.get()
            if isinstance(part, BaseException):
                raise part
            yield part
            if isinstance(part, Answer):
                return
    finally:
        streamer.heard = False
        worker.join()


class Unheard(BaseException):
    """Nobody listens any more. No error: nothing that handles errors of a model is to take it for one."""


def _streamer(tokenizer: Any, parts: SimpleQueue[Any]) -> Any:
    from transformers import TextStreamer

    class ToQueue(TextStreamer):
        heard = True

        def put(self, value: Any) -> None:
            if not self.heard:
                raise Unheard
            super().put(value)

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            parts.put(text)

    return ToQueue(tokenizer, skip_prompt=True, skip_special_tokens=True)
