"""What a method declares, and the one function each of its stages writes.

A `Method` is configuration: a frozen dataclass. Its `Stage`s are pure: they see tensors and geometry through `Signals`,
never a module, and return a `Plan` together with the state that their next call receives.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from framefusion.core.errors import MissingSignalError, OptionError, UnsupportedPointError
from framefusion.core.options import options_of, settle, shown

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.core.model_shape import ModelShape
    from framefusion.core.plan import Plan
    from framefusion.models.family import Family

Stream = Literal["pixels", "vision", "features", "prompt", "cache"]
Place = Literal["before", "after_attention"]
Scope = Literal["visual", "span"]
PROPORTIONAL = "proportional_attention"


@dataclass(frozen=True, order=True)
class Point:
    """A place in the decoder: before layer `layer`, or between that layer's attention and its MLP.

    The point before layer 0 is the prompt point. Layers below 0 stand for places before the decoder.
    """

    layer: int
    place: Place

    def __str__(self) -> str:
        if self.layer < 0:
            return "in front of the projector" if self == IN_FRONT else "inside the vision tower"
        return f"{'before' if self.place == 'before' else 'after attention of'} layer {self.layer}"


IN_FRONT = Point(-1, "before")
"""The point in front of the projector."""

INSIDE = Point(-2, "before")
"""Inside the vision tower."""


def before(layer: int) -> Point:
    return Point(layer, "before")


def after_attention(layer: int) -> Point:
    return Point(layer, "after_attention")


@dataclass(frozen=True)
class Setting:
    """What a stage may know when a prompt starts: one row of the batch.

    layers: decoder layers of this model.
    geometry: the row's N tokens in the stage's scope.
    """

    layers: int
    geometry: Geometry


@dataclass(frozen=True)
class VisionSignals:
    """What the vision tower knows about the N visual tokens of a row (or of one picture), computed only when called.

    `layer` counts from the end: -1 is the last attention layer of the tower, -2 the one before.

    source: where `saliency` comes from, by the declared chain: "cls" (attention of the class token), "pooling head"
        (attention of the pooling query of SigLIP), "received" (attention received, averaged over queries).
    saliency: (layer, headless) -> (N,) float32, averaged over heads; the softmax runs over the whole picture, class
        token included. headless: one softmax over all heads' channels at once, scaled by their common width.
    keys: (layer) -> (N, H * d) keys, heads side by side.
    features: () -> (N, C) what enters the projector.
    """

    source: str
    saliency: Callable[[int, bool], Tensor]
    keys: Callable[[int], Tensor]
    features: Callable[[], Tensor]

    def part(self, index: Tensor) -> VisionSignals:
        """The signals of the tokens `index` (n,) alone."""
        return VisionSignals(
            self.source,
            lambda layer, headless: self.saliency(layer, headless)[index],
            lambda layer: self.keys(layer)[index],
            lambda: self.features()[index],
        )


@dataclass(frozen=True)
class Signals:
    """What a stage may look at when it decides, for one row. Functions are computed only when called.

    Args:
        point: where in the decoder this is.
        geometry: of the N tokens that are alive.
        size: (N,) float32, how many original tokens each carries.
        hidden: () -> (N, D) hidden states entering this point.
        text: () -> (M, D) hidden states of the row's text tokens at this point, padding left out, and whatever stands
            behind the prompt: an answer that is scored or trained on, or being written without a cache.
        asks: () -> (M,) bool, which of these text tokens come after the last visual token.
        has_attention: whether an attention layer ran before this point; recurrent layers have no attention to show. For
            stages that need scores, whether the nearest one reaches every token from the last query row: one with a
            sliding window or chunks may not, and then `attention` and `text_attention` raise MissingSignalError.
        attention: (rows) -> (N,) attention that the last `rows` query rows pay to each token in the nearest attention
            call before this point, averaged over heads and rows; the softmax runs over the whole causal, unpadded
            prompt.
        text_attention: () -> (H, R, N) the same, per head and row, of the R text tokens after the last visual token.
        keys: () -> (N, H_kv, d) keys of that attention call, rotary positions included.
        text_keys: () -> (M, H_kv, d) keys of the text tokens.
        vision: () -> what the vision tower knows about the tokens; only for stages that need "vision".
        repeats: () -> (N,) the token that each token repeats, itself where its patches were encoded; only for stages of
            the stream "pixels", in front of layer 0.
        entered: () -> (N, D) hidden states that entered the block of the vision tower under way, or before a block, the
            one before it; only inside the tower.
        mean_logits: () -> (2, N) float32 of the nearest attention call before this point, before its softmax, averaged
            over heads: of each token as a query, with the keys of all visual tokens of the row, each weighed by its
            gate; of each as a key, with the queries of the text behind the last visual token.
        gate: (N,) how much a learned reducer lets each token count so far, None where all count in full.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class LongestKeys(ff.ScoredMethod):
        ...     keep: float = 0.5
        ...     layer: int = 1
        ...     uses = frozenset({"keys"})
        ...     facts = ff.MethodFacts("longest_keys", "Longest keys", "", "keeps long keys", "before a layer")
        ...     def score(self, signals: ff.Signals):
        ...         return signals.keys().float().flatten(1).norm(dim=-1)
        >>> with ff.reduce(model, LongestKeys()) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens
        256
    """

    point: Point
    geometry: Geometry
    size: Tensor
    hidden: Callable[[], Tensor]
    text: Callable[[], Tensor]
    asks: Callable[[], Tensor]
    has_attention: bool
    attention: Callable[[int], Tensor]
    text_attention: Callable[[], Tensor]
    keys: Callable[[], Tensor]
    text_keys: Callable[[], Tensor]
    vision: Callable[[], VisionSignals]
    repeats: Callable[[], Tensor] = field(default_factory=lambda: _no_repeats)
    entered: Callable[[], Tensor] = field(default_factory=lambda: _not_inside)
    mean_logits: Callable[[], Tensor] = field(default_factory=lambda: _no_logits)
    gate: Tensor | None = None

    def __len__(self) -> int:
        return len(self.geometry)

    def part(self, index: Tensor) -> Signals:
        """The signals of the tokens `index` (n,) alone."""
        return replace(
            self,
            geometry=self.geometry[index],
            size=self.size[index],
            hidden=lambda: self.hidden()[index],
            attention=lambda rows: self.attention(rows)[index],
            text_attention=lambda: self.text_attention()[..., index],
            keys=lambda: self.keys()[index],
            vision=lambda: self.vision().part(index),
            entered=lambda: self.entered()[index],
            mean_logits=lambda: self.mean_logits()[:, index],
            gate=None if self.gate is None else self.gate[index],
        )


def _not_inside() -> Tensor:
    raise MissingSignalError(
        "no block of the vision tower is under way",
        "what entered one is known inside the tower only, from its second block on",
        "read `hidden`",
    )


def _no_logits() -> Tensor:
    raise MissingSignalError("there is no attention to take logits of", "the stage did not say that it needs them")


def _no_repeats() -> Tensor:
    raise MissingSignalError(
        "no stage decided from pixels which tokens repeat others",
        "only stages of the stream `pixels` know, in front of layer 0",
        "put framefusion.PixelDedup first in the chain",
    )


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


def no_attention(point: Point) -> UnsupportedPointError:
    """The error of asking for attention at a point that no attention layer ran before."""
    return UnsupportedPointError(
        f"there is no attention to score tokens with {point}",
        "the layers before it are recurrent",
        "choose a later layer",
    )
