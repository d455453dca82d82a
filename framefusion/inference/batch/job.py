"""What a batch job is: a model and how it is asked, and the clips it is asked about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from framefusion.core.installed import versions_of
from framefusion.core.method import Method
from framefusion.core.options import DTYPES, Count, OneOf, Rate, settle

if TYPE_CHECKING:
    from framefusion.inference.media import MediaOptions

PACKAGES = ("framefusion", "torch", "transformers")
VERSIONS = "versions"


@dataclass(frozen=True)
class Job:
    """How every clip of a job is read and asked about.

    model: path or hub id of a checkpoint. method: None for the model as it is. frames, fps, frame_rate, offline: as
    `MediaOptions` takes them. dtype, device, trust_remote_code: as `load_checkpoint` takes them. name: what rows call
    the model, else `model`.

    Raises OptionError.
    """

    model: str
    method: Method | None = None
    frames: Count = 64
    fps: Rate | None = None
    max_new_tokens: Count = 64
    dtype: Annotated[str, OneOf(*DTYPES)] = "auto"
    device: str | None = None
    name: str = ""
    trust_remote_code: bool = False
    frame_rate: Rate = 1.0
    offline: bool = False

    def __post_init__(self) -> None:
        settle(self)

    @property
    def reading(self) -> MediaOptions:
        """How its media are read."""
        from framefusion.inference.media import MediaOptions

        return MediaOptions(self.frames, self.fps, self.frame_rate, self.offline)

    def settings(self) -> dict[str, Any]:
        """What the rows of one file have in common, as JSON values, and under "versions" what may differ."""
        settings = {
            "model": self.name or self.model,
            "method": "dense" if self.method is None else self.method.facts.name,
            "options": {} if self.method is None else self.method.options(),
            "frames": self.frames,
            "fps": self.fps,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            VERSIONS: versions_of(*PACKAGES),
        }
        if self.frame_rate != 1.0:
            settings["frame_rate"] = self.frame_rate
        return json.loads(json.dumps(settings, default=repr))


@dataclass(frozen=True)
class Task:
    """One clip, read once, and what to ask about it."""

    path: str
    questions: tuple[str, ...]
