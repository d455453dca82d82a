"""The contract every supported family keeps, run on a tiny model of it.

At each point: the reduced model's logits are those of the bare layers on gathered tensors, the cache holds what the
layers read and nothing more, cached decoding continues as one long forward would, a padded batch equals its rows, and
FrameFusion meets its cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from framefusion.core.errors import UnsupportedModelError
from framefusion.core.method import Method, MethodFacts, Point, Setting, Signals, after_attention, before
from framefusion.core.plan import GONE, Plan
from framefusion.engine.model.cache_names import cache_of
from framefusion.engine.model.parts import find_parts
from framefusion.inference.reduction import reduce
from framefusion.models.table import POINTS, Row
from framefusion.testing.conformance.replay import Act, Answer, Replay
from framefusion.testing.conformance.shrink import FIRST_SPECIAL, VOCABULARY
from framefusion.testing.conformance.toy import Toy, build, spliced, toy_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.model.parts import ModelParts
    from framefusion.inference.report import Report

PROMPT, LAYER, BETWEEN = POINTS
TOLERANCE = 1e-4
OWN_FAULT = "transformers "


@dataclass(frozen=True)
class Halve(Method):
    """Every second token goes at each of `points`: in turn into the one before it, or for good."""

    at: tuple[Point, ...] = (before(0),)

    facts: ClassVar[MethodFacts] = MethodFacts("halve", "Halve", "", "every second", "", False, "geometry", True)

    def stages(self) -> tuple[Any, ...]:
        return (_HalveStage(self.at),)


@dataclass(frozen=True)
class _HalveStage:
    at: tuple[Point, ...]

    stream: ClassVar[str] = "prompt"
    scope: ClassVar[str] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset()

    def points(self, layers: int) -> Iterable[Point]:
        return self.at

    def start(self, setting: Setting) -> None:
        return None

    def step(self, state: None, signals: Signals) -> tuple[Plan, None]:
        count = len(signals)
        keep = torch.arange(0, count, 2)
        owner = torch.full((count,), GONE)
        owner[keep] = torch.arange(len(keep))
        source = torch.arange(1, count, 4)
        owner[source] = target = owner[source - 1]
        own = torch.ones(len(keep)).index_fill(0, target, 0.6)
        return Plan(count, keep, owner, target, source, torch.full((len(source),), 0.4), own), None


class Broken(Exception):
    """A family does not keep the contract."""


def run(model_type: str, class_name: str) -> Row:
    """Build the family's tiny model and run the contract on it. Raises as `judge` does."""
    return judge(model_type, class_name, build(model_type, class_name))


def judge(model_type: str, class_name: str, model: nn.Module) -> Row:
    """Run the contract. Raises Broken where a supported family does not keep it."""
    try:
        reduce(model, Halve()).remove()
    except UnsupportedModelError as error:
        return Row(model_type, class_name, False, reason=error.why)
    toy = toy_of(model)
    fault = _own_fault(toy)
    if fault:
        return Row(model_type, class_name, False, reason=fault, named=toy.named)
    return Row(model_type, class_name, True, check(toy), pictures=toy.pixels is not None, named=toy.named)


@torch.no_grad()
def _own_fault(toy: Toy) -> str:
    """Why transformers cannot run the model as it is, "" where it can."""
    import transformers

    given = toy.prompt()
    try:
        with spliced(toy.model, given):
            toy.model(**given.inputs)
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        return f"{OWN_FAULT}{transformers.__version__} cannot run it: {type(error).__name__}: {said}"
    return ""


def check(toy: Toy) -> tuple[str, ...]:
    """Run the contract on one model; returns the points where plans may act. Raises Broken."""
    model, given, points = toy.model, toy.prompt(), [PROMPT]
    parts = find_parts(model)
    with spliced(model, given):
        replay = Replay(model, parts.blocks, given)
        _meets(model, replay, (before(0),))
        middle = _attention_layer(parts)
        _meets(model, replay, (before(middle),))
        points.append(LAYER)
        if middle not in _whole(_meets(model, replay, (after_attention(middle),))):
            points.append(BETWEEN)
        every = (before(0), after_attention(0), before(middle), after_attention(middle))
        report = _meets(model, replay, every)
        _is("plans", len(report.decisions), len(set(every)))
    _decodes(toy)
    _batches(toy)
    return tuple(points)


def _attention_layer(parts: ModelParts) -> int:
    """An attention layer that is not the first layer."""
    found = [number for number, block in enumerate(parts.blocks) if block.attention is not None and number]
    return found[0] if found else len(parts.blocks) - 1


@torch.no_grad()
def _meets(model: nn.Module, replay: Replay, at: tuple[Point, ...]) -> Report:
    """Logits and lengths of the reduced model against the bare layers."""
    with reduce(model, Halve(at), layout=replay.layout) as reduction:
        out = model(**replay.inputs, use_cache=True)
    report = reduction.report
    acts = [Act(d.point.layer, d.point.place != "before", d.columns, d.plan) for d in report.decisions]
    if not acts:
        raise Broken("nothing was reduced")
    expected = replay.run(acts, _whole(report))
    place = " and ".join(map(str, at))
    _near(f"logits, reduced {place}", out.logits, expected.logits)
    _is(f"sequence of each layer, reduced {place}", [layer.length_in for layer in report.layers], expected.lengths)
    visual = report.visual_tokens
    words = replay.length - visual
    cost = sum(length - words for length in expected.lengths) / (visual * len(expected.lengths))
    if abs(report.cost - cost) > TOLERANCE:
        raise Broken(f"cost reduced {place}: {report.cost:.3f}, expected {cost:.3f}")
    _stored(place, out, expected)
    return report


def _whole(report: Report) -> list[int]:
    """Layers in which nothing got shorter between attention and MLP."""
    return [layer.layer for layer in report.layers if layer.length_in == layer.length_out]


def _stored(place: str, out: Any, expected: Answer) -> None:
    cache = cache_of(out)
    for number, layer in enumerate(getattr(cache, "layers", ())):
        keys = getattr(layer, "keys", None)
        if not isinstance(keys, torch.Tensor) or not keys.numel():
            continue
        stored = len(expected.keys[number])
        if getattr(layer, "is_sliding", False):
            stored = min(stored, layer.sliding_window - 1)
        _is(f"entries in cache layer {number}, reduced {place}", keys.shape[-2], stored)


@torch.no_grad()
def _decodes(toy: Toy) -> None:
    """Decoding from the cache gives the logits of one forward over prompt and answer, as it does in the stock model."""
    if not callable(getattr(toy.model, "generate", None)):
        return
    try:
        _near("", *_both_ways(toy))
    except Broken:
        return
    with reduce(toy.model, Halve(), layout=toy.prompt().layout):
        _near("logits while decoding", *_both_ways(toy))


def _both_ways(toy: Toy, count: int = 3) -> tuple[Tensor, Tensor]:
    """(1, count, V) logits of an answer token by token, and of the answer read at once."""
    given = toy.prompt()
    with spliced(toy.model, given):
        out = toy.model.generate(
            **given.inputs,
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            suppress_tokens=list(range(FIRST_SPECIAL, VOCABULARY)),
            pad_token_id=1,
        )
    longer = toy.prompt(answer=out.sequences[:, -count:])
    with spliced(toy.model, longer):
        whole = toy.model(**longer.inputs).logits
    return torch.stack(out.logits, 1), whole[:, -count - 1 : -1]


@torch.no_grad()
def _batches(toy: Toy) -> None:
    """A left-padded batch gives the logits of its rows, wherever that holds for the stock model."""
    model, both = toy.model, toy.prompt(padding=(0, 3))
    short = both.row(1)
    with spliced(model, both):
        stock = model(**both.inputs).logits[1, -1]
    with spliced(model, short):
        alone = model(**short.inputs).logits[0, -1]
    if float((stock - alone).abs().max()) > TOLERANCE * max(1.0, float(alone.abs().max())):
        return
    with spliced(model, both), reduce(model, Halve(), layout=both.layout):
        together = model(**both.inputs).logits[1, -1]
    with spliced(model, short), reduce(model, Halve(), layout=short.layout):
        alone = model(**short.inputs).logits[0, -1]
    _near("logits of a padded row", together, alone)


def _near(what: str, found: Tensor, expected: Tensor) -> None:
    if found.shape != expected.shape:
        raise Broken(f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    worst = float((found - expected).abs().max())
    if not worst <= limit:
        raise Broken(f"{what}: off by {worst:.1e}, allowed {limit:.1e}")


def _is(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Broken(f"{what}: {found}, expected {expected}")
