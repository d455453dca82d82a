"""From the words of a configuration or a request to checked settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from framefusion.core.errors import OptionError
from framefusion.core.lines import read_object
from framefusion.core.options import NOT_AN_OPTION, Keep, OneOf, Share, options_of, settle, shown
from framefusion.core.registry import read
from framefusion.integrations.vllm.families import KEY
from framefusion.integrations.vllm.rules import OF_PICTURES, OF_VIDEOS, RULES
from framefusion.methods.pixel_dedup import PixelDedup

FROM_PIXELS = "pixels"
DENSE = "dense"
PICTURES = "pictures"
NOT_OF_PICTURES = ("pixel_change", "untested", PICTURES)
OWN = ("method", "keep", *NOT_OF_PICTURES)


@dataclass(frozen=True)
class Settings:
    """How videos are reduced, and pictures.

    method: one of `RULES`.
    keep: fraction in (0, 1] or a number of each video's tokens (of each frame's, where a method works frame by frame),
        or "pixels": as many as there are units that PixelDedup encodes.
    pixel_change: with keep="pixels", the change, as PixelDedup measures it, above which a unit is encoded again.
    untested: on a release of vLLM outside the tested range, "refuse" to start or serve "dense", without reduction.
    pictures: false, they pass whole; true, they are reduced as videos are; or how else: a method's name, or settings of
        their own, of which those that are not given are as for videos.
    options: other options of the method.
    for_pictures: these are the settings of pictures.
    """

    method: str = "framefusion"
    keep: Keep | Annotated[str, OneOf(FROM_PIXELS)] = 0.3
    pixel_change: Share = PixelDedup.threshold
    untested: Annotated[str, OneOf("refuse", DENSE)] = "refuse"
    pictures: bool | str | Mapping[str, Any] = False
    options: Mapping[str, Any] = field(default_factory=dict)
    for_pictures: bool = field(default=False, compare=False, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        settle(self)
        if self.method not in RULES:
            raise OptionError(
                f"the method `{self.method}` cannot act in a serving engine",
                "the engine counts a prompt's tokens before it computes any, and every layer reads the same ones",
                f"choose one of: {', '.join(OF_PICTURES if self.for_pictures else OF_VIDEOS)}",
            )
        self._check_media()
        keep = 0.5 if isinstance(self.keep, str) else self.keep
        object.__setattr__(self, "options", RULES[self.method].checked(keep, self.options))
        _ = self.of_pictures  # what makes no sense is said now

    @cached_property
    def of_pictures(self) -> Settings | None:
        """How pictures are reduced, None where they pass whole. Raises OptionError."""
        if self.pictures is False:
            return None
        given = _own_of_pictures(self.pictures)
        base = {"keep": self.keep, **(self.options if given.get("method", self.method) == self.method else {})}
        within = RULES[given["method"]].within if given.get("method") in OF_PICTURES else False
        if within and "keep" in given:
            raise OptionError(
                f"`{given['method']}` has no budget `keep`",
                "how much of a picture repeats decides what is kept",
                "give `threshold`, the difference that counts as none",
            )
        if within:
            base = {}
        return Settings.read({"method": self.method, **base, **given}, for_pictures=True)

    def _check_media(self) -> None:
        """Raises OptionError for what cannot reduce videos, or pictures where these settings are theirs."""
        if not self.for_pictures and self.method not in OF_VIDEOS:
            raise OptionError(
                f"`{self.method}` cannot reduce videos",
                "it compares the blocks of one picture",
                f'name it for pictures, "{PICTURES}": "{self.method}"; for videos there is pixel_dedup',
            )
        if self.for_pictures and self.method not in OF_PICTURES:
            raise OptionError(
                f"`{self.method}` cannot reduce pictures",
                "it goes by what changed since the frame before, and a picture has none",
                f'give pictures a method of their own, such as "{PICTURES}": {{"method": "divprune"}}, or leave them '
                f'whole with "{PICTURES}": false; methods for pictures: {", ".join(OF_PICTURES)}',
            )
        if self.for_pictures and self.keep == FROM_PIXELS:
            raise OptionError(
                f"keep='{FROM_PIXELS}' has no meaning for pictures",
                "it counts what changes between the frames of a video",
                f'give pictures a budget of their own, such as "{PICTURES}": {{"keep": 0.3}}',
            )

    @property
    def tower_method(self) -> str | None:
        """A method, of videos or pictures, that needs attention scores of the vision tower."""
        used = [self.method, *([self.of_pictures.method] if self.of_pictures else [])]
        return next((name for name in used if RULES[name].tower), None)

    def pixel_rule(self) -> PixelDedup | None:
        """What decides from pixels which units of a clip are encoded; None where all are."""
        if RULES[self.method].before_tower:
            keep = None if isinstance(self.keep, str) else self.keep
            return PixelDedup(**{"keep": keep, "threshold": self.pixel_change, **self.options})
        return PixelDedup(threshold=self.pixel_change) if self.keep == FROM_PIXELS else None

    @staticmethod
    def read(given: Any, for_pictures: bool = False) -> Settings:
        """Settings from a mapping as JSON gives it. Raises OptionError."""
        if not isinstance(given, Mapping):
            raise OptionError(
                f"{KEY} must be a mapping, got {shown(given)}", hint=f'such as {{"{KEY}": {{"keep": 0.3}}}}'
            )
        options = {key: value for key, value in given.items() if key not in OWN}
        own = {key: given[key] for key in OWN if key in given}
        if _is_pixel_rule(own.get("method")):
            own.setdefault("keep", FROM_PIXELS)
        return Settings(**own, options=options, for_pictures=for_pictures)

    def for_request(self, given: Any) -> Settings:
        """These settings with those of a request on top; another method starts from its own defaults."""
        if not isinstance(given, Mapping):
            raise OptionError(f"{KEY} of a request must be a mapping, got {shown(given)}")
        named = given.get("method", self.method)
        same = isinstance(named, str) and named == self.method
        base: dict[str, Any] = {"method": self.method, "pixel_change": self.pixel_change, PICTURES: self.pictures}
        if PICTURES in given:
            given = {**given, PICTURES: self._pictures_for(given[PICTURES])}
        if same or not _is_pixel_rule(named):
            base["keep"] = self.keep
        wanted = Settings.read({**base, **(self.options if same else {}), **given})
        if wanted.tower_method and not self.tower_method:
            raise OptionError(
                f"`{wanted.tower_method}` cannot be chosen by a request",
                "the engine reads attention of the vision tower only if it was started for that",
                f"start it with {KEY} method {wanted.tower_method}",
            )
        return wanted

    def _pictures_for(self, given: Any) -> Any:
        """Settings of a request's pictures, on top of those of the engine where both name some."""
        if isinstance(self.pictures, bool) or isinstance(given, bool) or not isinstance(given, str | Mapping):
            return given
        mine, wanted = _own_of_pictures(self.pictures), _own_of_pictures(given)
        method = mine.get("method", self.method)
        if wanted.get("method", method) != method:
            kept = wanted.get("method") in OF_PICTURES and not RULES[wanted["method"]].within
            mine = {key: mine[key] for key in ("keep",) if key in mine and kept}
        return {**mine, **wanted}


def _is_pixel_rule(name: Any) -> bool:
    return isinstance(name, str) and name == PixelDedup.facts.name


def _own_of_pictures(given: bool | str | Mapping[str, Any]) -> dict[str, Any]:
    """What is set for pictures alone. Raises OptionError."""
    if isinstance(given, str):
        return {"method": given}
    own = {} if isinstance(given, bool) else dict(given)
    for key in NOT_OF_PICTURES:
        if key in own:
            raise OptionError(f"`{key}` is no setting of pictures", hint="they take `method`, `keep` and its options")
    return own


def read_words(words: Mapping[str, str]) -> dict[str, Any]:
    """What `Settings.read` takes, from `key=value` words on a command line. Raises OptionError, UnknownNameError."""
    own = {key: _read(key, word) for key, word in words.items() if key in OWN}
    method = own.get("method", Settings.method)
    return {**own, **read(method, {key: word for key, word in words.items() if key not in OWN})}


def _read(key: str, word: str) -> Any:
    if key != PICTURES or not word.lstrip().startswith("{"):
        return options_of(Settings)[key].read(word)
    try:
        return read_object(word)
    except ValueError as error:
        raise OptionError(f"{PICTURES}={shown(word)} is no JSON object", str(error)) from None


def settings_of(config: Any) -> Settings | None:
    """Settings in a Hugging Face configuration, None where there are none."""
    given = getattr(config, KEY, None)
    return None if given is None else Settings.read(given)
