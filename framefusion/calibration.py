"""The threshold of FrameFusion for a model nobody published one for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from framefusion.errors import OptionError
from framefusion.method import Method, MethodFacts, Point, Scope, Setting, Signals, Stage, Stream, before
from framefusion.ops.similarity import NO_PREDECESSOR
from framefusion.ops.temporal import pairs_along_time
from framefusion.reduction import reduce

if TYPE_CHECKING:
    from torch import nn

    from framefusion.plan import Plan


@dataclass(frozen=True)
class _Listen(Method):
    """Watches the similarities at the prompt point and changes nothing."""

    medians: list[float] = field(default_factory=list)

    facts: ClassVar[MethodFacts] = MethodFacts(
        "listen", "Listen", "", "measures similarity", "before layer 0", False, "geometry", False
    )

    def stages(self) -> tuple[Stage, ...]:
        return (_Ear(self.medians),)


@dataclass(frozen=True)
class _Ear:
    medians: list[float]

    stream: ClassVar[Stream] = "prompt"
    scope: ClassVar[Scope] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0),)

    def start(self, setting: Setting) -> None:
        return None

    def step(self, state: None, signals: Signals) -> tuple[Plan | None, None]:
        similarity = pairs_along_time(signals).similarity
        similarity = similarity[similarity > NO_PREDECESSOR]
        if similarity.numel():
            self.medians.append(float(similarity.median()))
        return None, None


def calibrate(model: nn.Module, inputs: Iterable[Mapping[str, Any]]) -> float:
    """`similarity_lower_bound` for `model` by the paper's rule.

    The median cosine of visual tokens with their predecessors at the input of the first layer, taken per video and
    averaged over the videos (FrameFusion, section 4).

    model: as for `reduce`; it is left as it was.
    inputs: what the processor returns for each video, one prompt (or batch of prompts) at a time.

    Raises OptionError when no prompt has a token with a predecessor in time.
    """
    listener = _Listen()
    with reduce(model, listener), torch.no_grad():
        for prompt in inputs:
            model(**prompt)
    if not listener.medians:
        raise OptionError(
            "nothing to calibrate on",
            "no prompt had a clip of at least two frames",
            "pass the processor's outputs for a few videos",
        )
    return sum(listener.medians) / len(listener.medians)
