"""Learned reducers: methods that hold weights of their own, made for the shape of one model.

A learned reducer is a frozen dataclass as any method is. What it learned hangs in its field `weights`, which is no
option: it is compared by identity, not shown, and named among the options by a fingerprint of its numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from framefusion.core.errors import OptionError
from framefusion.core.method import Method, Setting
from framefusion.core.options import NOT_AN_OPTION, OneOf, checked
from framefusion.core.stage import DecoderStage

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from framefusion.core.adapter import Adapter
    from framefusion.core.method import Stage
    from framefusion.core.model_shape import ModelShape
    from framefusion.core.plan import Plan

HINT = "load a trained one with framefusion.load_reducer(path), or make one with `framefusion train`"


@dataclass(frozen=True, eq=False)
class Weights:
    """What a reducer has learned. Compared by identity.

    module: that computes what its stages decide; in training mode its stages answer so that gradients reach it.
    shape: of the model it was made for. adapter: what it adds to the model's own layers, None where it adds nothing.
    """

    module: nn.Module
    shape: ModelShape
    adapter: Adapter | None = None

    def state(self) -> dict[str, Tensor]:
        """All numbers by name."""
        return {**self.module.state_dict(), **({} if self.adapter is None else self.adapter.state())}

    def fingerprint(self) -> str:
        """Sixteen hex digits, equal for equal numbers, also in another process."""
        from framefusion.core.ops.raw import raw_bytes

        digest = hashlib.sha256()
        for name, value in sorted(self.state().items()):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(raw_bytes(value))
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class LearnedMethod(Method):
    """Base of methods with weights: a subclass is a frozen dataclass that writes `build` and `learned_stages`.

    Args:
        weights: what it has learned, and for which model; None before it was trained or loaded.
    """

    weights: Weights | None = field(default=None, kw_only=True, repr=False, metadata=NOT_AN_OPTION)

    trained: ClassVar[bool] = True
    of_layers: ClassVar[bool] = False
    """Whether its module is made of decoder layers of the model's kind, which `ModelShape.decoder` describes."""
    uses: ClassVar[frozenset[str]] = frozenset({"hidden"})
    """Names of the signals that its stages ask for."""

    def build(self, shape: ModelShape) -> nn.Module:
        """A new module for a model of this shape. Its parameters and buffers are what `save` writes."""
        raise NotImplementedError

    def begin(self, module: nn.Module, layers: Sequence[Mapping[str, Tensor]]) -> None:
        """Give a new `module` what training begins with. layers: weights by name of each decoder layer of the model."""

    def learned_stages(self, weights: Weights) -> tuple[Stage, ...]:
        """The stages of the method with these weights."""
        raise NotImplementedError

    def loss(self, plans: Sequence[Planned], tokens: Sequence[int]) -> Tensor | None:
        """What training adds to the loss of the next token; None where the method adds nothing.

        plans: every plan its stages made in the latest forward pass, in order. tokens: visual tokens of each row.
        """
        return None

    def untrained(self, shape: ModelShape, seed: int = 0) -> Self:
        """The same method with new weights for a model of this shape, drawn by `seed`."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return replace(self, weights=Weights(self.build(shape), shape))

    def with_adapter(self, adapter: Adapter | None) -> Self:
        """The same reducer, which adds `adapter` to the model's own layers while it is at work."""
        return self if self.weights is None else replace(self, weights=replace(self.weights, adapter=adapter))

    def save(self, path: str | Path, bits: int = 32) -> None:
        """Write weights, options and the shape of the model into the folder `path`.

        Args:
            path: of the folder.
            bits: of a number: 32 writes them as they are, 16 in half precision, 8 rows of matrices rounded.

        Raises:
            OptionError: it has no weights, the folder cannot be written, or numbers have no such width.
        """
        from framefusion.core.reducer_files import WIDTHS, write

        if self.weights is None:
            raise OptionError(f"{self.facts.title} has no weights to save", hint="train or load it first")
        checked("bits", Annotated[int, OneOf(*WIDTHS)], bits)
        shape = self.weights.shape
        model = shape.to_dict() if self.of_layers else shape.sizes()
        configuration: dict[str, Any] = {"method": self.facts.name, "options": super().options(), "model": model}
        if self.weights.adapter is not None:
            configuration["adapter_scale"] = self.weights.adapter.scale
        write(path, self.weights.state(), configuration, bits)

    def stages(self) -> tuple[Stage, ...]:
        """None without weights: such a method is refused by `check_model`."""
        return () if self.weights is None else self.learned_stages(self.weights)

    def adapters(self) -> tuple[Adapter, ...]:
        return () if self.weights is None or self.weights.adapter is None else (self.weights.adapter,)

    def options(self) -> dict[str, Any]:
        """Every option with its value, and under "weights" a fingerprint of what was learned."""
        known = super().options()
        return known if self.weights is None else {**known, "weights": self.weights.fingerprint()}

    def check_made(self, **made: Any) -> None:
        """Raises OptionError where an option is not what the weights were `made` with, by its name."""
        for name, value in made.items():
            if getattr(self, name) != value:
                raise OptionError(
                    f"this {self.facts.title} reducer was made with {name} = {value}, not {getattr(self, name)}",
                    "its weights have the sizes of that",
                    f"leave out {name}, or train another one with it",
                )

    def check_model(self, shape: ModelShape) -> None:
        title = self.facts.title
        if self.weights is None:
            raise OptionError(f"{title} has no weights", "what it keeps is learned for each model", HINT)
        wrong = self.weights.shape.differences(shape)
        if wrong:
            raise OptionError(
                f"this {title} reducer was made for another model",
                f"this model has {', '.join(wrong)}",
                "load the one that was trained for this model, or train one with `framefusion train`",
            )


@dataclass(frozen=True)
class Planned:
    """A plan as it was applied. layer: of the decoder before which it acted. row: of the batch."""

    layer: int
    row: int
    plan: Plan


@dataclass(frozen=True)
class LearnedStage(DecoderStage):
    """A `DecoderStage` whose `decide` may pass gradients to a module: while it runs, autograd is as the model has it.

    It acts before a layer: what it decides between attention and MLP gets no gradient.
    """

    learns: ClassVar[bool] = True

    def start(self, setting: Setting) -> None:
        super().start(setting)
        if self.point.place != "before":
            raise OptionError("a learned stage acts before a layer", "autograd cannot follow it into a layer")


def check_heads(heads: int, width: int, of: str) -> None:
    """Raises OptionError where attention of so many heads has no place in states `width` wide. of: whose they are."""
    if width % heads:
        raise OptionError(
            f"heads = {heads} does not divide the width of {of}, {width}", hint="choose a number that divides it"
        )


def tower_width(title: str, shape: ModelShape) -> int:
    """Width of the vision tower's states. Raises OptionError for a model without one. title: of the method."""
    if shape.vision is None:
        raise not_for_this_model(title, "its configuration names no vision tower")
    return shape.vision


def not_for_this_model(title: str, why: str) -> OptionError:
    """What is raised where a model has no place for a method. title: of the method."""
    return OptionError(f"{title} cannot be made for this model", why, "take a vision-language model of transformers")


def on_device(module: nn.Module, like: Tensor) -> nn.Module:
    """`module` where `like` lies; weights of a reducer follow the model."""
    known = next(iter(module.state_dict().values()), None)
    return module if known is None or known.device == like.device else module.to(like.device)
