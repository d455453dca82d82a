"""One object that answers questions about pictures and videos, for whoever wants to write no processor code."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.core.method import Method
from framefusion.core.options import Count, checked, shown
from framefusion.core.registry import RECOMMENDED, configure, method_at
from framefusion.inference.answer.checkpoint import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    from framefusion.inference.answer.answer import Answer
    from framefusion.inference.answer.frame_size import ProcessorResize
    from framefusion.inference.media import MediaOptions
    from framefusion.inference.video import Clip
    from framefusion.inference.video.limits import Resize

TURNS_TO = "give a path, an address, a PIL image, a (height, width, 3) uint8 array, a Clip, or a list of them"


@dataclass(frozen=True, eq=False)
class Session:
    """A model in memory that is asked about pictures and videos, made by `load`.

    Args:
        checkpoint: model and processor.

    Example:
        >>> session = ff.load("framefusion/tiny", device="cpu")
        >>> session.ask("clip.mp4", "what changed?", frames=8, method=None, max_new_tokens=2).visual_tokens > 0
        True
    """

    checkpoint: Checkpoint

    def ask(
        self,
        media: Any,
        question: str,
        *,
        method: Method | str | None = RECOMMENDED,
        max_new_tokens: int = 64,
        frames: int | None = 64,
        fps: float | None = None,
        frame_rate: float = 1.0,
        offline: bool = False,
        stream: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Answer:
        """The model's answer to `question` about `media`, with what it took.

        Args:
            media: a path of a picture, a video, an animation or a folder of frames, an http(s) address, "-" for
                standard input, a PIL image, a (height, width, 3) uint8 array, a `Clip`; or a list of these.
            question: about them, in words.
            method: a method, its name, or `package.module:Class`; None for the model as it is.
            max_new_tokens: length of the answer.
            frames: as for `load_clip`.
            fps: as for `load_clip`.
            frame_rate: pictures per second in a folder of frames.
            offline: fetch nothing from an address.
            stream: called with each piece of the answer while it is written.
            options: of the method named, such as `keep=0.3`, which stands for the budget of any of them.

        Returns:
            `text`, `report` (None without a method), counts and times.

        Raises:
            VideoError: what is named cannot be read.
            PromptError: the model's processor does not accept it.
            OptionError: an argument is outside its range.

        Example:
            >>> answer = ff.load("framefusion/tiny").ask("clip.mp4", "what changed?", keep=0.5, max_new_tokens=2)
            >>> answer.report.kept_fraction
            0.5
        """
        from framefusion.inference.answer.answer import ask
        from framefusion.inference.answer.prompt import build_prompt
        from framefusion.inference.answer.streaming import streamer_to
        from framefusion.inference.media import MediaOptions

        chosen = _method(method, options)
        tokens = checked("max_new_tokens", Count, max_new_tokens, "64 is room for a few sentences")
        if not isinstance(question, str):
            raise OptionError(f"a question is text, got {shown(question)}")
        clips = clips_of(media, MediaOptions(frames, fps, frame_rate, offline), self._resize)
        self._warn(clips, question)
        inputs = build_prompt(self.checkpoint, clips, question)
        own = None if chosen is None else chosen.for_family(self.checkpoint.family)
        tokenizer = self.checkpoint.processor.tokenizer
        streamer = None if stream is None else streamer_to(lambda text, _: stream(text), tokenizer)
        return ask(self.checkpoint, inputs, own, tokens, streamer)

    @cached_property
    def _resize(self) -> ProcessorResize | None:
        """Of the frames of videos as they are decoded."""
        from framefusion.inference.answer.frame_size import ProcessorResize

        return ProcessorResize.of(self.checkpoint)

    def _warn(self, clips: tuple[Clip, ...], question: str) -> None:
        """Say what the embedded model was not made for, where the call of `ask` stands."""
        from framefusion.inference.tiny.known import remarks

        for remark in remarks(self.checkpoint.name, clips, question):
            warnings.warn(remark, stacklevel=3)


def load(
    name: str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> Session:
    """A model to ask: its weights, its processor, and no code to write for either.

    Args:
        name: path or hub id; `framefusion/tiny` is the embedded model.
        dtype: "auto", "float32", "bfloat16" or "float16".
        device: "cpu", "cuda", "auto" (spread by accelerate), or None for the GPU if there is one.
        attention: "sdpa" or "eager", None for the model's default.
        trust_remote_code: run the code that comes with the checkpoint, which can do anything that you can.

    Returns:
        What answers with `ask`; `session.checkpoint` has the model and its processor.

    Raises:
        CheckpointError: what is wrong with the checkpoint.
        OptionError: a dtype or a device that is not there.

    Example:
        >>> session = ff.load("framefusion/tiny", device="cpu")
        >>> session.checkpoint.family.name
        'qwen2_5_vl'
    """
    return Session(load_checkpoint(name, dtype, device, attention, trust_remote_code))


def clips_of(media: Any, reading: MediaOptions, resize: Resize | None = None) -> tuple[Clip, ...]:
    """Whatever `Session.ask` takes, as clips. resize: as for `load_clip`. Raises VideoError and OptionError."""
    given = media if isinstance(media, list | tuple) else [media]
    if not given:
        raise OptionError("there is nothing to ask about", "media is empty", TURNS_TO)
    return tuple(_clip(one, reading, resize, number) for number, one in enumerate(given, start=1))


def _clip(one: Any, reading: MediaOptions, resize: Resize | None, number: int) -> Clip:
    import numpy as np
    from PIL import Image

    from framefusion.inference.media import load_media
    from framefusion.inference.media.still import still, upright
    from framefusion.inference.video import Clip

    if isinstance(one, Clip):
        return one
    if isinstance(one, str | os.PathLike):
        return load_media(one, reading, resize)
    name = f"picture {number}"
    if isinstance(one, Image.Image):
        return still(np.ascontiguousarray(upright(name, one)), name)
    if isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3 and one.size:
        return still(np.ascontiguousarray(one), name)
    kind = f"{one.dtype} {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
    raise OptionError(f"media of {kind} cannot be shown to a model", hint=TURNS_TO)


def _method(chosen: Method | str | None, options: dict[str, Any]) -> Method | None:
    if isinstance(chosen, str):
        return configure(method_at(chosen) if ":" in chosen else chosen, options)
    if options:
        which = "no method" if chosen is None else "a method that has its options"
        raise OptionError(f"`{next(iter(options))}` is an option of a method", f"{which} is given", "name the method")
    if chosen is not None and not isinstance(chosen, Method):
        raise OptionError(f"a method or its name is needed, got {shown(chosen)}")
    return chosen
