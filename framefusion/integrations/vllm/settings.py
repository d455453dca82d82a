"""From the words of a configuration or a request to checked settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from framefusion.core.errors import OptionError
from framefusion.core.options import Keep, OneOf, Share, options_of, settle, shown
from framefusion.core.registry import read
from framefusion.integrations.vllm.families import KEY
from framefusion.integrations.vllm.rules import RULES
from framefusion.methods.pixel_dedup import PixelDedup

FROM_PIXELS = "pixels"
DENSE = "dense"
OWN = ("method", "keep", "pixel_change", "untested")


@dataclass(frozen=True)
class Settings:
    """How videos are reduced.

    method: one of `RULES`.
    keep: fraction in (0, 1] or a number of each video's tokens (of each frame's, where a method works frame by frame),
        or "pixels": as many as there are units that PixelDedup encodes.
    pixel_change: with keep="pixels", the change, as PixelDedup measures it, above which a unit is encoded again.
    untested: on a release of vLLM outside the tested range, "refuse" to start or serve "dense", without reduction.
    options: other options of the method.
    """

    method: str = "framefusion"
    keep: Keep | Annotated[str, OneOf(FROM_PIXELS)] = 0.3
    pixel_change: Share = PixelDedup.threshold
    untested: Annotated[str, OneOf("refuse", DENSE)] = "refuse"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(self)
        if self.method not in RULES:
            raise OptionError(
                f"the method `{self.method}` cannot act in a serving engine",
                "the engine counts a prompt's tokens before it computes any, and every layer reads the same ones",
                f"choose one of: {', '.join(RULES)}",
            )
        keep = 0.5 if isinstance(self.keep, str) else self.keep
        object.__setattr__(self, "options", RULES[self.method].checked(keep, self.options))

    def pixel_rule(self) -> PixelDedup | None:
        """What decides from pixels which units of a clip are encoded; None where all are."""
        if RULES[self.method].before_tower:
            keep = None if isinstance(self.keep, str) else self.keep
            return PixelDedup(**{"keep": keep, "threshold": self.pixel_change, **self.options})
        return PixelDedup(threshold=self.pixel_change) if self.keep == FROM_PIXELS else None

    @staticmethod
    def read(given: Any) -> Settings:
        """Settings from a mapping as JSON gives it. Raises OptionError."""
        if not isinstance(given, Mapping):
            raise OptionError(
                f"{KEY} must be a mapping, got {shown(given)}", hint=f'such as {{"{KEY}": {{"keep": 0.3}}}}'
            )
        options = {key: value for key, value in given.items() if key not in OWN}
        own = {key: given[key] for key in OWN if key in given}
        if _is_pixel_rule(own.get("method")):
            own.setdefault("keep", FROM_PIXELS)
        return Settings(**own, options=options)

    def for_request(self, given: Any) -> Settings:
        """These settings with those of a request on top; another method starts from its own defaults."""
        if not isinstance(given, Mapping):
            raise OptionError(f"{KEY} of a request must be a mapping, got {shown(given)}")
        named = given.get("method", self.method)
        same = isinstance(named, str) and named == self.method
        base: dict[str, Any] = {"method": self.method, "pixel_change": self.pixel_change}
        if same or not _is_pixel_rule(named):
            base["keep"] = self.keep
        wanted = Settings.read({**base, **(self.options if same else {}), **given})
        if RULES[wanted.method].tower and not RULES[self.method].tower:
            raise OptionError(
                f"`{wanted.method}` cannot be chosen by a request",
                "the engine reads attention of the vision tower only if it was started for that",
                f"start it with {KEY} method {wanted.method}",
            )
        return wanted


def _is_pixel_rule(name: Any) -> bool:
    return isinstance(name, str) and name == PixelDedup.facts.name


def read_words(words: Mapping[str, str]) -> dict[str, Any]:
    """What `Settings.read` takes, from `key=value` words on a command line. Raises OptionError, UnknownNameError."""
    own = {key: options_of(Settings)[key].read(word) for key, word in words.items() if key in OWN}
    method = own.get("method", Settings.method)
    return {**own, **read(method, {key: word for key, word in words.items() if key not in OWN})}


def settings_of(config: Any) -> Settings | None:
    """Settings in a Hugging Face configuration, None where there are none."""
    given = getattr(config, KEY, None)
    return None if given is None else Settings.read(given)
