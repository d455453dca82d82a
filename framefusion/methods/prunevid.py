"""PruneVid: merge what stands still and what looks alike, then keep what the question attends to.

Paper: PruneVid, https://arxiv.org/abs/2412.16117.

Differs from the published code: clustering adds no noise; layers before the question's choice keep the keys and values
they made; small groups keep one token instead of none; clusters keep the position of their centre; every clip is
treated by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.core.method import Method, MethodFacts, Point, Scope, Setting, Signals, Stage, Stream, before
from framefusion.core.ops.scenes import frame_segments, merge_scenes
from framefusion.core.ops.selection import highest_per_group
from framefusion.core.options import Cosine, Keep, Layer, Share
from framefusion.core.plan import Plan
from framefusion.core.stage import decide_on_patches

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PruneVid(Method):
    """Spatio-temporal merging at the prompt, then selection by the question in the language model.

    Args:
        keep: fraction of each group of static or dynamic patches that clustering leaves, (0, 1], rounded down, or their
            number; 1.0 turns the whole method off.
        tau: mean cosine over time above which a patch is static and becomes one token per segment, [-1, 1].
        alpha: fraction of each group that the question keeps, (0, 1], rounded down; 1 leaves that step out.
        layer: decoder layer whose attention decides; None is 10, or the middle of a decoder of fewer than 22 layers.
        proportional_attention: merged tokens count in the decoder's attention as often as they have originals.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.PruneVid(keep=0.5)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.kept_tokens < reduction.report.visual_tokens
        True
    """

    keep: Keep = 0.5
    tau: Cosine = 0.8
    alpha: Share = 0.4
    layer: Layer | None = None
    proportional_attention: bool = False

    facts = MethodFacts(
        name="prunevid",
        title="PruneVid",
        paper="https://arxiv.org/abs/2412.16117",
        summary="merges what stands still and what looks alike, then keeps what the question attends to",
        stage="prompt, before layer 0, then after a layer",
        query_aware=True,
        count="data",
        merges=True,
    )

    def stages(self) -> tuple[Stage, ...]:
        return (MergeThenAsk(self),)


@dataclass(frozen=True)
class Progress:
    """What the question's choice must know of the merge before it.

    frames, patches: size of the prompt's largest clip and frame, to number its tokens.
    token, group: (K,) ascending token numbers and what each survivor is part of.
    """

    frames: int
    patches: int
    token: Tensor | None = None
    group: Tensor | None = None
    done: bool = False

    def number(self, geometry: Geometry) -> Tensor:
        """(N,) number of each token within the prompt."""
        return (geometry.clip * self.frames + geometry.frame) * self.patches + geometry.patch


@dataclass(frozen=True)
class MergeThenAsk:
    """Both steps of PruneVid for one prompt row."""

    method: PruneVid

    stream: ClassVar[Stream] = "prompt"
    scope: ClassVar[Scope] = "visual"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "text_attention"})

    def points(self, layers: int) -> Iterable[Point]:
        return (before(0), *(before(layer) for layer in range(self._layer(layers) + 1, layers)))

    def _layer(self, layers: int) -> int:
        return min(10, max(0, layers // 2 - 1)) if self.method.layer is None else self.method.layer

    def start(self, setting: Setting) -> Progress:
        if self.method.layer is not None and self.method.layer >= setting.layers - 1:
            raise OptionError(f"no layer follows layer {self.method.layer}", f"this model has {setting.layers}")
        places = setting.geometry
        return Progress(max(places.frame.tolist(), default=0) + 1, max(places.patch.tolist(), default=0) + 1)

    def step(self, state: Progress, signals: Signals) -> tuple[Plan | None, Progress]:
        if isinstance(self.method.keep, float) and self.method.keep == 1.0:
            return Plan.identity(len(signals), signals.size.device), state
        if state.token is None:
            return self._merge(state, signals)
        if state.done or self.method.alpha == 1.0 or not signals.has_attention:
            return None, state
        plan = decide_on_patches(signals, lambda part: self._ask(state, part), by_clip=True)
        return plan, replace(state, done=True)

    def _merge(self, state: Progress, signals: Signals) -> tuple[Plan, Progress]:
        token, group = [], []

        def decide(part: Signals) -> Plan:
            hidden, frame = part.hidden().to(torch.float32), frame_numbers(part.geometry)
            segment = frame_segments(hidden, frame)
            scenes = merge_scenes(hidden, frame, part.geometry.patch, segment, self.method.tau, self.method.keep)
            plan = Plan.merge(scenes.head, scenes.share)
            token.append(state.number(part.geometry[plan.keep]))
            group.append(scenes.group[plan.keep])
            return plan

        plan = decide_on_patches(signals, decide, by_clip=True)
        if not token:
            return plan, replace(state, done=True, token=plan.keep[:0], group=plan.keep[:0])
        order = torch.cat(token).sort()
        return plan, replace(state, token=order.values, group=torch.cat(group)[order.indices])

    def _ask(self, state: Progress, signals: Signals) -> Plan:
        """Keep, of every group, what some word of the question attends to most in some head."""
        attention = signals.text_attention()
        if attention.shape[1] == 0 or state.token is None or state.group is None:
            return Plan.identity(len(signals), attention.device)
        token = state.number(signals.geometry).to(state.token.device)
        group = state.group[torch.searchsorted(state.token, token)].to(attention.device)
        keep = highest_per_group(attention.amax((0, 1)), group, float(self.method.alpha), int)
        return Plan.select(keep, len(signals))
