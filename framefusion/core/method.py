"""What a method declares, and the one function each of its stages writes.

A `Method` is configuration: a frozen dataclass. Its `Stage`s are pure: they see tensors and geometry through `Signals`,
never a module, and return a `Plan` together with the state that their next call receives.

What a method needs besides, points and signals, can be imported from here as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from framefusion.core.errors import OptionError
from framefusion.core.options import options_of, settle, shown
from framefusion.core.point import IN_FRONT, INSIDE, Place, Point, after_attention, before
from framefusion.core.signals import Signals, VisionSignals, no_attention

if TYPE_CHECKING:
    from framefusion.core.adapter import Adapter
    from framefusion.core.layout import Geometry
    from framefusion.core.model_shape import ModelShape
    from framefusion.core.plan import Plan
    from framefusion.models.family import Family

__all__ = [
    "INSIDE",
    "IN_FRONT",
    "PROPORTIONAL",
    "Method",
    "MethodFacts",
    "Place",
    "Point",
    "Scope",
    "Setting",
    "Signals",
    "Stage",
    "Stream",
    "VisionSignals",
    "after_attention",
    "before",
    "checked_methods",
    "no_attention",
]

Stream = Literal["pixels", "vision", "features", "prompt", "cache"]
Scope = Literal["visual", "span"]
PROPORTIONAL = "proportional_attention"


@dataclass(frozen=True)
class Setting:
    """What a stage may know when a prompt starts: one row of the batch.

    layers: decoder layers of this model.
    geometry: the row's N tokens in the stage's scope.
    """

    layers: int
    geometry: Geometry


class Stage(Protocol):
    """One step of a method at one stream.

    scope: "visual" lets the stage see and drop visual tokens only; "span" everything from the first to the last of
        them, text included (only the published FrameFusion code does that).
    needs: names of the signals it may ask for; the engine prepares no others.

    A stage may also say `borrows = True`: it neither changes hidden states nor keeps them beyond its `step`. It is then
    shown them where they lie, not in a copy.
    """

    @property
    def stream(self) -> Stream: ...

    @property
    def scope(self) -> Scope: ...

    @property
    def needs(self) -> frozenset[str]: ...

    def points(self, layers: int) -> Iterable[Point]:
        """Where the stage wants to be called in a decoder of `layers` layers, in order."""

    def start(self, setting: Setting) -> Any:
        """State of a new prompt row, before its first point. setting: what is known of the row by then."""

    def step(self, state: Any, signals: Signals) -> tuple[Plan | None, Any]:
        """Decide at one point.

        Args:
            state: what `start` or the step before returned.
            signals: what the stage may look at.

        Returns:
            The plan, None to leave the tokens alone, and the state for the next point.
        """


@dataclass(frozen=True)
class MethodFacts:
    """A page of facts about a method, shown by `framefusion methods`.

    Args:
        name: what the command knows the method by.
        title: what reports call it.
        paper: address of the paper, empty if there is none.
        summary: what it does, in a line.
        stage: where it acts, in words.
        query_aware: whether the question decides what stays.
        count: "geometry" if the number of surviving patches follows from sizes alone, else "data".
        merges: whether survivors take in what others carried.
        budget: name of the option that sets the budget, the target of `--keep`.
        needs: deprecated and not read: stages say what they need.
        identity: options with which the method changes nothing. None stands for {budget: 1.0}; empty if there are none.

    Example:
        >>> facts = ff.FastV.facts
        >>> facts.name, facts.query_aware, facts.identity
        ('fastv', True, {'keep': 1.0})
    """

    name: str
    title: str
    paper: str
    summary: str
    stage: str
    query_aware: bool = False
    count: Literal["geometry", "data"] = "geometry"
    merges: bool = False
    budget: str = "keep"
    needs: InitVar[tuple[str, ...] | None] = None
    identity: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self, needs: tuple[str, ...] | None) -> None:
        if needs is not None:
            warnings.warn(
                "MethodFacts takes no `needs` any more: its stages say them", DeprecationWarning, stacklevel=3
            )
        if self.identity is None:
            object.__setattr__(self, "identity", {self.budget: 1.0})


class Method:
    """Base of all methods: configuration only. Subclasses are frozen dataclasses.

    The annotation of a field declares an option, see `framefusion.core.options`.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> method = ff.FastV(keep=0.5, layer=2)
        >>> method.options()
        {'keep': 0.5, 'layer': 2}
        >>> method.with_budget(0.3)
        FastV(keep=0.3, layer=2)
        >>> method.facts.paper
        'https://arxiv.org/abs/2403.06764'
    """

    facts: ClassVar[MethodFacts]

    def __post_init__(self) -> None:
        settle(self)
        if self.weighs and getattr(self, "strict", False):
            raise OptionError(
                f"{self.facts.title} has no proportional attention in strict mode",
                "the published code adds nothing to the attention of merged tokens",
                "leave out `strict` or `proportional_attention`",
            )
        self.check_options()

    @property
    def weighs(self) -> bool:
        """Whether merged tokens count in the decoder's attention as often as they have originals."""
        return bool(getattr(self, PROPORTIONAL, False))

    def with_weight(self, weighs: bool) -> Method:
        """The same method with `weighs` as given; one that merges nothing has no such option, and stays as it is."""
        return replace(self, **{PROPORTIONAL: weighs}) if hasattr(self, PROPORTIONAL) else self  # type: ignore[type-var]

    def check_options(self) -> None:
        """What concerns several options together. Raises OptionError."""

    def options(self) -> dict[str, Any]:
        """Every option with its value."""
        return {name: _plain(getattr(self, name)) for name in options_of(type(self))}

    def check_model(self, shape: ModelShape) -> None:
        """Raises OptionError where the method was made for a model of another shape than `shape`."""

    def with_budget(self, value: float) -> Self:
        """The same method at another budget.

        Args:
            value: of the option that `facts.budget` names.

        Raises:
            OptionError: the method has no budget.
        """
        if not self.facts.budget:
            raise OptionError(f"{self.facts.title} has no single budget to set")
        return replace(self, **{self.facts.budget: value})  # type: ignore[type-var]

    def stages(self) -> tuple[Stage, ...]:
        """The steps of the method, each at its points of the model."""
        raise NotImplementedError

    def adapters(self) -> tuple[Adapter, ...]:
        """What the method adds to layers of the model while it is at work; nothing unless it was trained so."""
        return ()

    def needs(self) -> frozenset[str]:
        """Names of the signals that its stages ask for."""
        return frozenset[str]().union(*(stage.needs for stage in self.stages()))

    def stage_names(self) -> tuple[str, ...]:
        """Name of the method behind each of its stages, for the report; several in a chain."""
        return (self.facts.name,) * len(self.stages())

    def for_family(self, family: Family) -> Method:
        """This method with the options left open filled in by what is known about the model's family."""
        return self

    def notes(self, family: Family) -> list[str]:
        """What the user should know about this method on this family; shown with the report."""
        return []


def _plain(value: Any) -> Any:
    """An option's value without methods in it: each as its options."""
    if isinstance(value, Method):
        return value.options()
    return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value


def checked_methods(values: Any, of: str) -> tuple[Method, ...]:
    """`values` as methods. of: what is made of them, for the error. Raises OptionError."""
    if not isinstance(values, tuple | list):
        raise OptionError(f"{of} is made of a list of methods, got {shown(values)}")
    for value in values:
        if not isinstance(value, Method):
            hint = "a method is configured first, as in FrameFusion(cost=0.3)"
            raise OptionError(f"{of} is made of methods, got {shown(value)}", hint=hint)
    return tuple(values)
