"""Stages most methods are made of: act once, clip by clip, on the patches, and let newlines follow their rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from framefusion.core.errors import UnsupportedPointError
from framefusion.core.layout import PATCH, Geometry, frame_groups
from framefusion.core.method import Place, Point, Scope, Setting, Signals, Stream, before
from framefusion.core.ops.pixel_change import Encoding
from framefusion.core.plan import GONE, Learned, Plan

if TYPE_CHECKING:
    from torch import Tensor

Decide = Callable[[Signals], Plan]

# What the stages were called before.
_FORMER_NAMES = {"Once": "DecoderStage", "PerPicture": "ProjectorStage", "InTower": "VisionStage"}


def __getattr__(name: str) -> Any:
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is called {_FORMER_NAMES[name]} now", DeprecationWarning, stacklevel=2)
    return globals()[_FORMER_NAMES[name]]


class InDecoder:
    """What stages that act on the prompt inside the decoder have in common: they see visual tokens only."""

    stream: ClassVar[Stream] = "prompt"

    @property
    def scope(self) -> Scope:
        return "visual"


@dataclass(frozen=True)
class DecoderStage(InDecoder):
    """Acts at one point.

    Newline and marker tokens are not shown to `decide`: one that closes a row stays if its row keeps a patch, one that
    closes a clip if the clip does.

    Args:
        point: where it acts.
        decide: signals of the patches of one clip -> plan.
        needs: names of the signals that `decide` reads.
        by_clip: off, `decide` is shown the patches of the whole row at once.
    """

    point: Point
    decide: Decide
    needs: frozenset[str] = frozenset({"hidden"})
    by_clip: bool = True

    def points(self, layers: int) -> Iterable[Point]:
        return (self.point,)

    def start(self, setting: Setting) -> None:
        if not 0 <= self.point.layer < setting.layers:
            raise UnsupportedPointError(
                f"this model has no layer {self.point.layer}", f"it has {setting.layers}", "choose an earlier layer"
            )

    def step(self, state: None, signals: Signals) -> tuple[Plan | None, None]:
        return decide_on_patches(signals, self.decide, self.by_clip), None


@dataclass(frozen=True)
class ProjectorStage:
    """Acts once per picture (image, tile or frame), before the projector where the model's shape allows it.

    It does where the projector maps each of its inputs to one visual token; elsewhere the same decision is made on the
    embeddings in front of layer 0.

    Args:
        decide: signals of the tokens of one picture -> plan.
        needs: names of the signals that `decide` reads.
    """

    decide: Decide
    needs: frozenset[str] = frozenset({"hidden", "vision"})

    stream: ClassVar[Stream] = "features"
    scope: ClassVar[Scope] = "visual"

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0),)

    def start(self, setting: Setting) -> None:
        return None

    def step(self, state: None, signals: Signals) -> tuple[Plan | None, None]:
        return join_patches(signals.geometry, self.parts(signals)), None

    def parts(self, signals: Signals, made: Sequence[Plan | None] = ()) -> list[tuple[Tensor, Plan]]:
        """Tokens and plan of every picture in `signals`. made: plans from in front of the projector, or None."""
        pictures = pictures_of(signals.geometry)
        plans = zip(pictures, made or [None] * len(pictures), strict=True)
        return [(group, self.decide(signals.part(group)) if plan is None else plan) for group, plan in plans]


DecideInTower = Callable[[Signals, int, int, int], Plan | None]


def _never(blocks: int) -> int:
    return 0


@dataclass(frozen=True)
class VisionStage:
    """Acts inside the vision tower, at every block, picture by picture.

    All that stands behind the last block, and every merger of an earlier one, reads the whole grid again.

    Args:
        decide: (signals, block, number of blocks, patches of the picture) -> plan over the picture's tokens, or None to
            leave them alone; a class token is among them as a MARKER and must stay. The number is of blocks at which
            the stage acts.
        needs: names of the signals that `decide` reads, "keys" among them.
        place: of a block where it acts: between its attention and its MLP, or before it.
        neighbours: 0 brings the others back as copies of the token that stands for them, and where patches are tokens
            of the prompt, they leave it instead. Any other number brings them back with the state they had when they
            left, and the mean change, since, of so many tokens that were nearest to them then.
        whole: (blocks of the tower) -> of how many behind that the attention still reads all tokens, brought back for
            it. Only with `neighbours`.
    """

    decide: DecideInTower
    needs: frozenset[str] = frozenset({"keys"})
    place: Place = "after_attention"
    neighbours: int = 0
    whole: Callable[[int], int] = _never

    stream: ClassVar[Stream] = "vision"
    scope: ClassVar[Scope] = "visual"

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0),)

    def start(self, setting: Setting) -> None:
        return None

    def step(self, state: None, signals: Signals) -> tuple[Plan | None, None]:
        """Where patches and tokens do not correspond one to one, the prompt keeps its tokens."""
        return None, None

    def parts(self, signals: Signals, made: Sequence[Plan | None]) -> list[tuple[Tensor, Plan]]:
        """Tokens and plan of every picture in `signals`. made: plans from inside the tower, or None."""
        device = signals.size.device
        plans = zip(pictures_of(signals.geometry), made, strict=True)
        return [(group, Plan.identity(group.numel(), device) if plan is None else plan) for group, plan in plans]


DecideFromPixels = Callable[[Sequence["Tensor"], tuple[int, int]], Encoding]


@dataclass(frozen=True)
class PixelStage:
    """Decides from pixels, before the tower runs, which units of a clip are encoded.

    decide: (T times (U, F, C, s, s) pixels on [0, 1] of the clip's units, a sequence made as it is read; rows and
        columns of the units) -> what is encoded.
    reuse: encoded units attend to the whole frame, in which the others show the key and value they had when they were
        encoded; else to each other alone.
    merge: tokens whose patches were not encoded leave the prompt; else they stay, with the values of those they repeat.
    blend: these values lie between the last and the following encoding. None leaves it to a chain, and blends outside
        of one.
    """

    decide: DecideFromPixels
    reuse: bool = True
    merge: bool = False
    blend: bool | None = False

    stream: ClassVar[Stream] = "pixels"
    scope: ClassVar[Scope] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset({"repeats"})

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0),) if self.merge else ()

    def start(self, setting: Setting) -> None:
        return None

    def step(self, state: None, signals: Signals) -> tuple[Plan | None, None]:
        """Tokens join those they repeat; their values are equal, so nothing is averaged."""
        head, patch = signals.repeats(), signals.geometry.kind == PATCH
        own = (head == torch.arange(len(signals), device=head.device)) & patch
        slot = own.cumsum(0) - 1
        patches = patch.nonzero().flatten()
        plan = Plan(patches.numel(), own[patches].nonzero().flatten(), slot[head[patches]])
        return join_patches(signals.geometry, [(patches, plan)]), None


def pictures_of(geometry: Geometry) -> list[Tensor]:
    """Indices of the patches of each picture (image, tile or frame), newlines left out."""
    patches = (geometry.kind == PATCH).nonzero().flatten()
    return [patches[group] for group in frame_groups(geometry[patches])]


def decide_on_patches(signals: Signals, decide: Decide, by_clip: bool) -> Plan:
    """One plan for all tokens of `signals` from the plans `decide` makes for their patches."""
    geometry = signals.geometry
    patches = geometry.kind == PATCH
    if _is_one_group(geometry, patches, by_clip):
        return decide(signals)
    groups = [patches & (geometry.clip == clip) for clip in geometry.clip.unique().tolist()] if by_clip else [patches]
    parts = []
    for group in groups:
        index = group.nonzero().flatten()
        if index.numel():
            parts.append((index, decide(signals.part(index))))
    return join_patches(geometry, parts)


def _is_one_group(geometry: Geometry, patches: Tensor, by_clip: bool) -> bool:
    """Whether there is nothing but the patches of one clip, asked with a single question to the device."""
    if not len(geometry):
        return False
    return bool((patches & (geometry.clip == geometry.clip[0]) if by_clip else patches).all())


def join_patches(geometry: Geometry, parts: list[tuple[Tensor, Plan]]) -> Plan:
    """One plan over all tokens from plans over all patches; newlines and markers follow their row or clip.

    Where no patch is left to follow, because an earlier method took newlines for tokens like any other, they stay.
    """
    if not parts:
        return Plan.identity(len(geometry), geometry.kind.device)
    others = (geometry.kind != PATCH).nonzero().flatten()
    if others.numel():
        parts = [*parts, (others, _follow(geometry, others, parts))]
    return join(len(geometry), parts)


def _follow(geometry: Geometry, others: Tensor, parts: list[tuple[Tensor, Plan]]) -> Plan:
    alive = torch.zeros(len(geometry), dtype=torch.bool, device=others.device)
    for index, plan in parts:
        alive[index[plan.keep]] = True
    same_clip = geometry.clip[others][:, None] == geometry.clip[None, :]
    same_row = (geometry.frame[others][:, None] == geometry.frame[None, :]) & (
        geometry.row[others][:, None] == geometry.row[None, :]
    )
    closes_row = (geometry.row[others] >= 0)[:, None]
    kept = (same_clip & (same_row | ~closes_row) & alive[None, :]).any(1)
    return Plan.select(kept.nonzero().flatten(), others.numel())


def join(count: int, parts: Iterable[tuple[Tensor, Plan]]) -> Plan:
    """One plan over `count` tokens from plans over disjoint groups of them, (indices, plan) each."""
    parts = [(index, plan) for index, plan in parts]
    keep = torch.cat([index[plan.keep] for index, plan in parts]).sort().values
    slot = torch.full((count,), GONE, dtype=torch.long, device=keep.device)
    slot[keep] = torch.arange(keep.numel(), device=keep.device)
    owner = torch.full_like(slot, GONE)
    for index, plan in parts:
        # GONE, the last place, is what an owner that is GONE points at; a part may have no survivor at all.
        survivor = torch.cat([slot[index[plan.keep]], slot.new_full((1,), GONE)])
        owner[index] = survivor[plan.owner]
    merging = [(index, plan) for index, plan in parts if plan.merges]
    learned = _join_learned(keep, slot, parts)
    if not merging:
        return Plan(count, keep, owner, learned=learned)
    own = torch.ones(keep.numel(), device=keep.device)
    target, source, weight = [], [], []
    for index, plan in merging:
        survivor = slot[index[plan.keep]]
        assert plan.target is not None and plan.source is not None and plan.weight is not None and plan.own is not None
        own[survivor] = plan.own.to(own)
        target.append(survivor[plan.target])
        source.append(index[plan.source])
        weight.append(plan.weight)
    return Plan(count, keep, owner, torch.cat(target), torch.cat(source), torch.cat(weight), own, learned)


def _join_learned(keep: Tensor, slot: Tensor, parts: Iterable[tuple[Tensor, Plan]]) -> Learned | None:
    """What learned reducers add, of all parts. keep: (K,) survivors. slot: (N,) where each token is among them."""
    found = [(slot[index[plan.keep]], plan.learned) for index, plan in parts if plan.learned is not None]
    if not found:
        return None
    gates = [(at, part.gate) for at, part in found if part.gate is not None]
    gate = torch.ones(keep.numel(), device=keep.device) if gates else None
    for at, share in gates:
        gate = gate.index_put((at,), share.to(gate))  # type: ignore[union-attr]
    new = [(at[part.slots], part.values) for at, part in found if part.slots is not None and part.values is not None]
    slots = torch.cat([at for at, _ in new]) if new else None
    text = [part.text for _, part in found if part.text is not None]
    if len(text) > 1:
        raise UnsupportedPointError(
            "two clips cannot each rewrite the text", "it would be one's or the other's", "set by_clip=False"
        )
    return Learned(gate, slots, torch.cat([values for _, values in new]) if new else None, text[0] if text else None)
