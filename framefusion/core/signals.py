"""What a stage may look at: tensors and geometry, never a module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from framefusion.core.errors import MissingSignalError, UnsupportedPointError

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.core.point import Point


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
        positions: () -> (A, N) positions of the tokens along each of the A axes that the model's rotary tables have;
            counted in columns of the prompt where the model is not told any.
        text_positions: () -> (A, M) those of the text tokens.

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
    positions: Callable[[], Tensor] = field(default_factory=lambda: _no_positions)
    text_positions: Callable[[], Tensor] = field(default_factory=lambda: _no_positions)

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
            positions=lambda: self.positions()[:, index],
        )


def _not_inside() -> Tensor:
    raise MissingSignalError(
        "no block of the vision tower is under way",
        "what entered one is known inside the tower only, from its second block on",
        "read `hidden`",
    )


def _no_logits() -> Tensor:
    raise MissingSignalError("there is no attention to take logits of", "the stage did not say that it needs them")


def _no_positions() -> Tensor:
    raise MissingSignalError("there are no positions here", "tokens get theirs in the prompt", "act before a layer")


def _no_repeats() -> Tensor:
    raise MissingSignalError(
        "no stage decided from pixels which tokens repeat others",
        "only stages of the stream `pixels` know, in front of layer 0",
        "put framefusion.PixelDedup first in the chain",
    )


def no_attention(point: Point) -> UnsupportedPointError:
    """The error of asking for attention at a point that no attention layer ran before."""
    return UnsupportedPointError(
        f"there is no attention to score tokens with {point}",
        "the layers before it are recurrent",
        "choose a later layer",
    )
