"""What happens when somebody does something on the page. Whatever goes wrong is shown there: what, why and a hint."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from framefusion.core.errors import FrameFusionError, OptionError
from framefusion.core.registry import method, methods
from framefusion.inference.answer.frame_size import ProcessorResize
from framefusion.inference.tiny import NAME as TINY
from framefusion.integrations.app import cards
from framefusion.integrations.app.answering import answers
from framefusion.integrations.app.examples import clip_of, examples
from framefusion.integrations.app.settings import Settings, from_query

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip
    from framefusion.inference.video.limits import Resize
    from framefusion.integrations.app.limits import Limits
    from framefusion.integrations.app.reading import Reader
    from framefusion.integrations.app.uploads import Uploads

READING = "reading"
EXAMPLE_FRAMES = 32


class Shown(NamedTuple):
    """The four parts of the right column, or what they are to show."""

    status: Any
    answers: Any
    took: Any
    map: Any


@dataclass(frozen=True)
class Source:
    """What is asked about: the visitor's upload, or an example of that number."""

    example: int | None = None


@dataclass
class Events:
    """checkpoints: the models that are served, by name. usual: settings of a page that no link sets.
    offline: no address is fetched.
    """

    checkpoints: dict[str, Checkpoint]
    usual: Settings
    limits: Limits
    uploads: Uploads
    reader: Reader
    offline: bool = False

    def __post_init__(self) -> None:
        """Asking a processor how it resizes is for the time before it is used."""
        self.resizes = {name: ProcessorResize.of(checkpoint) for name, checkpoint in self.checkpoints.items()}

    def opened(self, request: gr.Request) -> tuple[Any, ...]:
        """The settings of the link that was followed."""
        query = {name: str(value) for name, value in dict(request.query_params).items()}
        found, problem = from_query(query, self.usual, list(self.checkpoints), self.limits.frames)
        status = "" if problem is None else cards.problem(problem)
        return found.model, found.method, found.budget, found.frames, found.question, self.about(found.method), status

    def left(self, request: gr.Request) -> None:
        """The page was closed or loaded anew."""
        self.uploads.drop(str(request.session_hash))

    def dropped(self, file: str | None, frames: float, request: gr.Request) -> tuple[None, Source | None, str]:
        """A file arrived: it becomes the visitor's clip, and is looked at once."""
        if file is None:
            return None, None, ""
        return None, *self._taken(str(request.session_hash), frames, lambda: (Path(file), Path(file).name))

    def addressed(self, address: str, frames: float, request: gr.Request) -> tuple[Source | None, str]:
        """An address was written: what is there becomes the visitor's clip."""
        return self._taken(
            str(request.session_hash), frames, lambda: (self.reader.fetch(address.strip()), address.partition("?")[0])
        )

    def _taken(self, visitor: str, frames: float, arrive: Callable[[], tuple[Path, str]]) -> tuple[Source | None, str]:
        """arrive: gives the file and its name."""
        try:
            self.uploads.take(visitor, *arrive())
            small = cards.Thumbnails()
            return Source(), cards.strip(self._read(Source(), visitor, int(frames), small)[0], small.full)
        except Exception as error:
            self.uploads.drop(visitor)
            return None, cards.problem(known(error))

    def example(self, number: int) -> tuple[Source, str, str, str, int]:
        frames = min(EXAMPLE_FRAMES, self.limits.frames)
        return Source(number), cards.strip(clip_of(number)), examples()[number].question, TINY, frames

    def about(self, name: str) -> str:
        """What a method does, in a line."""
        try:
            facts = method(name).facts if name in methods else None
        except FrameFusionError as error:
            return cards.problem(error)
        return "" if facts is None else cards.method_line(facts.title, facts.summary)

    def asked(
        self,
        source: Source | None,
        model: str,
        method_: str,
        budget: float,
        frames: float,
        question: str,
        request: gr.Request,
    ) -> Iterator[Shown]:
        """Both answers as they come, then what they took and the token map."""
        try:
            settings = Settings(model, method_, budget, int(frames), question)
            settings = settings.checked(list(self.checkpoints), self.limits.frames)
            reduction = settings.reduction()
            if source is None:
                raise OptionError("there is no clip", hint="drop a video or a picture, or take an example")
            yield Shown(cards.doing("reading the clip"), "", "", "")
            checkpoint, resize = self.checkpoints[settings.model], self.resizes[settings.model]
            clip, reading_ms = self._read(source, str(request.session_hash), settings.frames, resize)
            for progress in answers(checkpoint, clip, settings.question, reduction, self.limits.new_tokens):
                if not progress.doing:
                    map_ = cards.token_map(progress)
                    yield Shown("", cards.both(progress), cards.took(progress, reading_ms), map_)
                else:
                    yield Shown(cards.doing(progress.doing), cards.both(progress), gr.skip(), gr.skip())
        except Exception as error:
            yield Shown(cards.problem(known(error)), "", "", "")

    def _read(self, source: Source, visitor: str, frames: int, resize: Resize | None) -> tuple[Clip, float]:
        """The clip and the milliseconds that reading it took. resize: as for `load_clip`."""
        if source.example is not None:
            return clip_of(source.example), 0.0
        upload = self.uploads.of(visitor)
        return self.reader.clip(str(upload.path), upload.name, frames, resize)


def known(error: Exception) -> FrameFusionError:
    """An error of ours; of any other the page tells no more than its kind, and the terminal everything."""
    if isinstance(error, FrameFusionError):
        return error
    traceback.print_exception(error)
    hint = "the terminal of `framefusion app` says where"
    return FrameFusionError("this could not be done", f"an error of the server: {type(error).__name__}", hint)
