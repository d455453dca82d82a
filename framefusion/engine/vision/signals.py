"""Split what the vision tower saw into one piece per picture, and bring it to the visual tokens of a row.

A picture is what the tower encodes at once: an image, a tile, or a frame of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import MissingSignalError, missing_signal
from framefusion.core.method import Signals, VisionSignals
from framefusion.core.ops.attention import attention_map, received_attention
from framefusion.core.ops.grid import to_tokens
from framefusion.core.stage import pictures_of
from framefusion.engine.trace import BlockTrace, TowerTrace
from framefusion.engine.vision.repeats import repeated_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry, Layout, Placement
    from framefusion.core.method import Point
    from framefusion.engine.vision.run import TowerAttention, TowerRun

CLS, POOLING, RECEIVED = "cls", "pooling head", "received"


class Pictures:
    """All pictures of one prompt batch. What is read from them is computed once.

    calls: what the tower saw, images before videos. layout: of the rows of the batch; rows repeated for beams share the
    pictures of the row they repeat where these were encoded before.
    """

    def __init__(self, calls: Sequence[TowerRun], layout: Layout) -> None:
        self.calls = list(calls)
        self.tokens = layout.visual_tokens
        self._geometries = [geometry for geometry, _ in layout.rows]
        self._original: list[int] = []
        self._all: dict[bool, list[Tensor]] = {}
        self._rows: list[list[tuple[bool, int, Tensor]]] = []
        self._memo: dict[tuple, Any] = {}
        shared = not any(call.per_row for call in calls)
        for number, (geometry, placement) in enumerate(layout.rows):
            repeated = shared and number > 0 and layout.rows[number - 1][0] is geometry
            self._original.append(self._original[-1] if repeated else number)
            self._rows.append([] if repeated else self._take(geometry, placement))

    def _take(self, geometry: Geometry, placement: Placement) -> list[tuple[bool, int, Tensor]]:
        """The pictures of one row: kind, number among those of its kind, and the row's tokens that show it."""
        pictures = []
        for group in pictures_of(geometry):
            video = bool(placement.video[group[0]]) if placement.video is not None else False
            everybody = self._all.setdefault(video, [])
            pictures.append((video, len(everybody), group))
            everybody.append(group)
        return pictures

    def is_video(self, call: TowerRun) -> bool:
        """Whether `call` encoded videos."""
        return bool(self._kind(call))

    def trace(self) -> TowerTrace | None:
        """What the runs encoded, None where no stage decided it."""
        depth = max((len(call.blocks) for call in self.calls), default=0)
        blocks = tuple(
            sum((call.blocks[number] for call in self.calls if number < len(call.blocks)), BlockTrace())
            for number in range(depth)
        )
        pairs = [call.encoded.patches() for call in self.calls if call.encoded is not None]
        if not pairs:
            return TowerTrace(0, 0, (), blocks) if blocks else None
        encoded, dense = map(sum, zip(*pairs, strict=True))
        repeats = (repeated_tokens(geometry, self.of_row(row)) for row, geometry in enumerate(self._geometries))
        return TowerTrace(encoded, dense, tuple(repeats), blocks)

    def of_kind(self, call: TowerRun) -> list[tuple[int, Tensor]]:
        """Row and tokens of every picture that `call` encoded, in its order."""
        kind = self._kind(call)
        return [(row, group) for row, own in enumerate(self._rows) for video, _, group in own if video == kind]

    def of_row(self, number: int) -> list[tuple[TowerRun | None, int, Tensor]]:
        """The pictures of a row: the call that encoded it, its number there, and the row's tokens that show it."""
        calls = self._by_kind()
        return [(calls.get(video), place, group) for video, place, group in self._rows[self._original[number]]]

    def signals(self, number: int, origin: Tensor) -> VisionSignals:
        """Signals of the row's visual tokens `origin` (N,), ascending and numbered as in its layout."""

        def spread(read: Callable[..., list[Tensor]], *options: Any) -> Tensor:
            whole = self._once((number, read, *options), lambda: self._spread(number, read, *options))
            whole = whole if origin.numel() == whole.shape[0] else whole[origin.to(whole.device)]
            return whole.to(origin.device)

        calls = (call for call, _, _ in self.of_row(number) if call is not None)
        return _vision(spread, source_of(next(calls, None)))

    def signals_of(self, call: TowerRun, place: int, device: torch.device) -> VisionSignals:
        """Signals of the tokens of one picture, number `place` of those `call` encoded."""
        kind = self._kind(call)
        assert kind is not None

        def piece(read: Callable[..., list[Tensor]], *options: Any) -> Tensor:
            return self._pieces(kind, read, *options)[place].to(device)

        return _vision(piece, source_of(call))

    def _by_kind(self) -> dict[bool, TowerRun]:
        """The tower call of the images (False) and of the videos (True), as far as they were made."""
        return dict(zip(sorted(self._all), self.calls, strict=False))

    def _kind(self, call: TowerRun) -> bool | None:
        return next((kind for kind, run in self._by_kind().items() if run is call), None)

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def _pieces(self, video: bool, read: Callable[..., list[Tensor]], *options: Any) -> list[Tensor]:
        """(n, C) for the n tokens of every picture of one kind."""
        call = self._by_kind().get(video)
        if call is None:
            raise tower_did_not_run()
        return self._once((call, read, *options), lambda: _fit(read(call, *options), self._all[video], call.grouped))

    def _spread(self, number: int, read: Callable[..., list[Tensor]], *options: Any) -> Tensor:
        """(N, C) over all tokens of the row; zero where a token is no patch."""
        whole: Tensor | None = None
        for video, place, group in self._rows[self._original[number]]:
            piece = self._pieces(video, read, *options)[place]
            if whole is None:
                whole = piece.new_zeros(self.tokens[number], piece.shape[-1])
            whole[group.to(whole.device)] = piece.to(whole)
        return torch.zeros(self.tokens[number], 1) if whole is None else whole


def early_signals(
    place: str, point: Point, geometry: Geometry, size: Tensor, hidden: Callable[[], Tensor], **known: Any
) -> Signals:
    """Signals at a `place` in front of the decoder. What `known` does not name raises MissingSignalError."""
    names = ("text", "asks", "attention", "text_attention", "keys", "text_keys", "vision")
    readers = {**dict.fromkeys(names, missing_signal(place)), **known}
    return Signals(point, geometry, size, hidden, has_attention="keys" in known, **readers)


def source_of(call: TowerRun | None) -> str:
    """Where saliency comes from, by the declared chain."""
    if call is not None and call.class_token:
        return CLS
    return POOLING if call is not None and call.head is not None else RECEIVED


def _vision(value: Callable[..., Tensor], source: str) -> VisionSignals:
    return VisionSignals(
        source=source,
        saliency=lambda layer, headless: value(_saliency, layer, headless).squeeze(-1),
        keys=lambda layer: value(_keys, layer),
        features=lambda: value(_features),
    )


def tower_did_not_run() -> MissingSignalError:
    return MissingSignalError(
        "the vision tower did not run for this prompt, whose pictures came encoded already",
        "a method that looks into the tower, or acts in it, cannot do so by the features alone",
        "pass the pixels instead of `mm_encoder_outputs`, or choose a method without tower signals",
    )


def _unaligned(why: str) -> MissingSignalError:
    return MissingSignalError(
        "the vision tower's patches cannot be assigned to the visual tokens of this prompt",
        why,
        "give pictures that are not cut into tiles, or choose a method without tower signals",
    )


def _fit(pieces: list[Tensor], groups: list[Tensor], grouped: bool) -> list[Tensor]:
    """Values of the patches of every picture (P, C) -> of its tokens (n, C)."""
    if len(pieces) != len(groups):
        raise _unaligned(f"the tower encoded {len(pieces)} pictures, the prompt shows {len(groups)}")
    if grouped and len({piece.shape[0] / group.numel() for piece, group in zip(pieces, groups, strict=True)}) > 1:
        raise _unaligned("some tokens of its pictures were left out of the prompt")
    fitted = []
    for piece, group in zip(pieces, groups, strict=True):
        tokens = to_tokens(piece, group.numel(), grouped)
        if tokens is None:
            raise _unaligned(f"a picture of {group.numel()} tokens comes from {piece.shape[0]} patches")
        fitted.append(tokens)
    return fitted


def _layer(call: TowerRun, layer: int) -> list[TowerAttention]:
    if len(call.layers) < -layer or not call.layers[layer]:
        raise MissingSignalError(
            "the vision tower shows no attention", "it does not go through transformers' attention interface"
        )
    return [seen.of_all_heads() for seen in call.layers[layer]]


def _saliency(call: TowerRun, layer: int, headless: bool) -> list[Tensor]:
    """(P, 1) per picture, float32."""
    calls = _layer(call, layer)
    if call.grouped:
        # Tokens of other windows pay nothing.
        received = torch.cat([_received(c.query[0], c.key[0], c.scale, headless) * c.query.shape[2] for c in calls])
        return [scores / scores.shape[0] for scores in _in_order(call, received[:, None])]
    source, saliency = source_of(call), []
    for picture, (query, key) in enumerate(zip(calls[0].query, calls[0].key, strict=True)):
        if source == CLS:
            query, key, scale = _channels(query, key, calls[0].scale, headless)
            everything = torch.ones(1, key.shape[1], dtype=torch.bool, device=key.device)
            saliency.append(attention_map(query[:, :1], key, everything, scale).mean((0, 1))[1:, None])
        elif source == POOLING:
            saliency.append(_pooling_attention(call, picture)[:, None])
        else:
            saliency.append(_received(query, key, calls[0].scale, headless)[:, None])
    return saliency


def _received(query: Tensor, key: Tensor, scale: float, headless: bool) -> Tensor:
    return received_attention(*_channels(query, key, scale, headless))


def _channels(query: Tensor, key: Tensor, scale: float, headless: bool) -> tuple[Tensor, Tensor, float]:
    """One head over all channels where asked for: (H, P, d) -> (1, P, H * d)."""
    if not headless:
        return query, key, scale
    flat = [states.transpose(0, 1).flatten(1)[None] for states in (query, key)]
    return flat[0], flat[1], flat[0].shape[-1] ** -0.5


def _pooling_attention(call: TowerRun, picture: int) -> Tensor:
    """(P,) attention of SigLIP's pooling query, averaged over its heads."""
    assert call.head is not None
    head, hidden = call.head
    with torch.no_grad():
        probe = head.probe.to(hidden.dtype)
        _, weights = head.attention(probe, hidden[picture : picture + 1], hidden[picture : picture + 1])
    return weights[0, 0].float()


def _keys(call: TowerRun, layer: int) -> list[Tensor]:
    """(P, H * d) per picture, class token left out."""
    calls = _layer(call, layer)
    if call.grouped:
        return _in_order(call, torch.cat([c.key[0].transpose(0, 1).flatten(1) for c in calls]))
    first = 1 if call.class_token else 0
    return [key.transpose(0, 1).flatten(1)[first:] for key in calls[0].key]


def _features(call: TowerRun) -> list[Tensor]:
    """(P, C) per picture, as the projector gets them."""
    if call.projected is None:
        raise MissingSignalError("nothing was seen in front of this model's projector")
    if call.grouped:
        return _in_order(call, call.projected.flatten(0, -2))
    return list(call.projected.flatten(0, -3))


def _in_order(call: TowerRun, values: Tensor) -> list[Tensor]:
    """(all patches, C) as the tower works on them -> (P, C) per picture, in the order of the prompt."""
    if values.shape[0] != sum(call.pictures):
        raise _unaligned(f"{values.shape[0]} patches for pictures of {sum(call.pictures)}")
    if call.order is not None:
        tokens = values.view(call.order.numel(), -1, values.shape[-1])
        values = torch.empty_like(tokens).index_copy(0, call.order.to(tokens.device), tokens).flatten(0, 1)
    return list(values.split(call.pictures))
