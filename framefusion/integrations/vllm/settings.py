"""From the words of a configuration or a request to checked settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from framefusion.errors import OptionError
from framefusion.integrations.vllm.families import KEY
from framefusion.integrations.vllm.rules import RULES

FROM_PIXELS = "pixels"
OWN = ("method", "keep", "pixel_change")


@dataclass(frozen=True)
class Settings:
    """How videos are reduced.

    method: one of `RULES`.
    keep: fraction in (0, 1] or a number of each video's tokens (of each frame's, where a method works frame by frame),
        or "pixels": as many as there are places that changed since the frame before, and the first frame.
    pixel_change: mean change of a place, in (0, 1] of the full range of a colour, from which it counts as changed.
    options: other options of the method.
    """

    method: str = "framefusion"
    keep: float | int | str = 0.3
    pixel_change: float = 0.05
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in RULES:
            raise OptionError(
                f"the method `{self.method}` cannot act in a serving engine",
                "the engine counts a prompt's tokens before it computes any, and every layer reads the same ones",
                f"choose one of: {', '.join(RULES)}",
            )
        if isinstance(self.keep, str) and self.keep != FROM_PIXELS:
            raise OptionError(f"keep must be a fraction, a number or '{FROM_PIXELS}', got {self.keep!r}")
        if not isinstance(self.pixel_change, float | int) or not 0.0 < self.pixel_change <= 1.0:
            raise OptionError(f"pixel_change must be in (0, 1], got {self.pixel_change!r}")
        # Builds the method once, so that its own checks speak.
        RULES[self.method].decider(0.5 if isinstance(self.keep, str) else self.keep, self.options)

    @staticmethod
    def read(given: Any) -> Settings:
        """Settings from a mapping as JSON gives it. Raises OptionError."""
        if not isinstance(given, Mapping):
            raise OptionError(f"{KEY} must be a mapping, got {given!r}", hint=f'such as {{"{KEY}": {{"keep": 0.3}}}}')
        options = {key: value for key, value in given.items() if key not in OWN}
        return Settings(**{key: given[key] for key in OWN if key in given}, options=options)

    def for_request(self, given: Any) -> Settings:
        """These settings with those of a request on top; another method starts from its own defaults."""
        if not isinstance(given, Mapping):
            raise OptionError(f"{KEY} of a request must be a mapping, got {given!r}")
        same = given.get("method", self.method) == self.method
        base = {"method": self.method, "keep": self.keep, "pixel_change": self.pixel_change}
        wanted = Settings.read({**base, **(self.options if same else {}), **given})
        if RULES[wanted.method].tower and not RULES[self.method].tower:
            raise OptionError(
                f"`{wanted.method}` cannot be chosen by a request",
                "the engine reads attention of the vision tower only if it was started for that",
                f"start it with {KEY} method {wanted.method}",
            )
        return wanted


def settings_of(config: Any) -> Settings | None:
    """Settings in a Hugging Face configuration, None where there are none."""
    given = getattr(config, KEY, None)
    return None if given is None else Settings.read(given)
