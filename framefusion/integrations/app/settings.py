"""What the page is set to: one value, which a link can carry. The clip is no part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from framefusion.core.errors import FrameFusionError, OptionError, UnknownNameError
from framefusion.core.options import Interval, Share, checked
from framefusion.core.registry import configure, method, methods
from framefusion.integrations.app.limits import QUESTION

if TYPE_CHECKING:
    from framefusion.core.method import Method


@dataclass(frozen=True)
class Settings:
    """model: one of those that are served. method: a registered name. budget: the method's own, (0, 1]."""

    model: str
    method: str
    budget: float
    frames: int
    question: str

    def query(self) -> str:
        """As it stands behind the question mark of a link."""
        return urlencode(asdict(self))

    def checked(self, models: Sequence[str], most_frames: int) -> Settings:
        """The same with plain numbers. Raises OptionError or UnknownNameError for what the page does not offer."""
        if self.model not in models:
            raise UnknownNameError(f"there is no model named `{self.model}` here", hint=f"served: {', '.join(models)}")
        if self.method not in methods:  # a name of a module would be imported
            methods.load(self.method)
        if len(self.question) > QUESTION:
            raise OptionError("the question is too long", f"it has more than {QUESTION} characters", "ask in fewer")
        if not self.question.strip():
            raise OptionError("there is no question", hint="write one below the clip")
        frames = checked("frames", Annotated[int, Interval(f"[1, {most_frames}]")], self.frames)
        return replace(self, budget=checked("budget", Share, self.budget), frames=frames)

    def reduction(self) -> Method:
        """The method with its budget. Raises FrameFusionError for a budget that it refuses."""
        budget = method(self.method).facts.budget
        return configure(self.method, {budget: self.budget} if budget else {})


def from_query(
    query: Mapping[str, str], usual: Settings, models: Sequence[str], most_frames: int
) -> tuple[Settings, FrameFusionError | None]:
    """The settings of a link, and the first thing in it that is not offered; that and what it lacks stays as usual."""
    found, problem = usual, None
    for name, read in (("model", str), ("method", str), ("budget", float), ("frames", int), ("question", str)):
        if name not in query:
            continue
        try:
            given: dict[str, Any] = {name: read(query[name])}
            found = replace(found, **given).checked(models, most_frames)
        except (FrameFusionError, ValueError) as error:
            wrong = OptionError(f"the link has a {name} that is not offered here", hint="choose one on the page")
            problem = problem or (error if isinstance(error, FrameFusionError) else wrong)
    return found, problem
