"""Split what the vision tower saw into one piece per picture, and bring it to the visual tokens of a row.

A picture is what the tower encodes at once: an image, a tile, or a frame of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from framefusion.errors import MissingSignalError
from framefusion.layout import PATCH
from framefusion.method import VisionSignals
from framefusion.ops.align import to_tokens
from framefusion.ops.frames import frame_groups
from framefusion.ops.score import attention_map, received_attention

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.intercept.tower import TowerCall
    from framefusion.layout import Geometry, Layout, Placement

CLS, POOLING, RECEIVED = "cls", "pooling head", "received"


class Pictures:
    """All pictures of one prompt batch.

    calls: what the tower saw, images before videos. layout: of the rows of the batch; rows repeated for beams share the
    pictures of the row they repeat.
    """

    def __init__(self, calls: Sequence[TowerCall], layout: Layout) -> None:
        self.calls = list(calls)
        self.tokens = layout.visual_tokens
        self._original: list[int] = []
        self._all: dict[bool, list[Tensor]] = {}
        self._rows: list[list[tuple[bool, int, Tensor]]] = []
        for number, (geometry, placement) in enumerate(layout.rows):
            repeated = number > 0 and layout.rows[number - 1][0] is geometry
            self._original.append(self._original[-1] if repeated else number)
            self._rows.append([] if repeated else self._take(geometry, placement))

    def _take(self, geometry: Geometry, placement: Placement) -> list[tuple[bool, int, Tensor]]:
        """The pictures of one row: kind, number among those of its kind, and the row's tokens that show it."""
        found = []
        for group in _groups(geometry):
            video = bool(placement.video[group[0]]) if placement.video is not None else False
            everybody = self._all.setdefault(video, [])
            found.append((video, len(everybody), group))
            everybody.append(group)
        return found

    def of_kind(self, call: TowerCall) -> list[tuple[int, Tensor]]:
        """Row and tokens of every picture that `call` encoded, in its order."""
        kind = next((kind for kind, found in self._by_kind().items() if found is call), None)
        return [(row, group) for row, found in enumerate(self._rows) for video, _, group in found if video == kind]

    def of_row(self, number: int) -> list[tuple[TowerCall | None, int, Tensor]]:
        """The pictures of a row: the call that encoded it, its number there, and the row's tokens that show it."""
        calls = self._by_kind()
        return [(calls.get(video), place, group) for video, place, group in self._rows[self._original[number]]]

    def signals(self, number: int, origin: Tensor) -> VisionSignals:
        """Signals of the row's visual tokens `origin` (N,), numbered as in its layout."""

        def spread(values: Callable[[TowerCall, list[int]], list[Tensor]]) -> Tensor:
            return self._spread(number, values)[origin.cpu()].to(origin.device)

        return VisionSignals(
            source=source_of(self.calls[0]) if self.calls else RECEIVED,
            saliency=lambda layer, headless: spread(lambda c, n: _saliency(c, n, layer, headless)).squeeze(-1),
            keys=lambda layer: spread(lambda c, n: _keys(c, n, layer)),
            features=lambda: spread(_features),
        )

    def _by_kind(self) -> dict[bool, TowerCall]:
        """The tower call of the images (False) and of the videos (True), as far as they were made."""
        return dict(zip(sorted(self._all), self.calls, strict=False))

    def _spread(self, number: int, values: Callable[[TowerCall, list[int]], list[Tensor]]) -> Tensor:
        """(N, C) over all tokens of the row; zero where a token is no patch."""
        pieces = {}
        for kind, call in self._by_kind().items():
            counts = [group.numel() for group in self._all[kind]]
            pieces[kind] = values(call, counts)
            if len(pieces[kind]) != len(counts):
                raise _unaligned(f"the tower encoded {len(pieces[kind])} pictures, the prompt shows {len(counts)}")
        whole: Tensor | None = None
        for video, place, group in self._rows[self._original[number]]:
            if video not in pieces:
                raise _unaligned("the tower did not run for this prompt")
            piece = _fit(pieces[video][place], group.numel(), self._by_kind()[video].grouped)
            if whole is None:
                whole = torch.zeros(self.tokens[number], piece.shape[-1])
            whole[group.cpu()] = piece.float().cpu()
        return torch.zeros(self.tokens[number], 1) if whole is None else whole


def source_of(call: TowerCall) -> str:
    """Where saliency comes from, by the declared chain."""
    if not call.grouped and _has_class_token(_layer(call, -1)[0].query.shape[2]):
        return CLS
    return POOLING if call.head is not None else RECEIVED


def _groups(geometry: Geometry) -> list[Tensor]:
    """Indices of the patches of each picture of a row, newlines left out."""
    patches = (geometry.kind == PATCH).nonzero().flatten()
    return [patches[group] for group in frame_groups(geometry[patches])]


def _unaligned(why: str) -> MissingSignalError:
    return MissingSignalError(
        "the vision tower's patches cannot be assigned to the visual tokens of this prompt",
        why,
        "give pictures that are not cut into tiles, or choose a method without tower signals",
    )


def _fit(piece: Tensor, count: int, grouped: bool) -> Tensor:
    found = to_tokens(piece, count, grouped)
    if found is None:
        raise _unaligned(f"a picture of {count} tokens comes from {piece.shape[0]} patches")
    return found


def _has_class_token(patches: int) -> bool:
    return round((patches - 1) ** 0.5) ** 2 == patches - 1 and round(patches**0.5) ** 2 != patches


def _layer(call: TowerCall, layer: int) -> list:
    if len(call.layers) < -layer or not call.layers[layer]:
        raise MissingSignalError(
            "the vision tower shows no attention", "it does not go through transformers' attention interface"
        )
    return call.layers[layer]


def _saliency(call: TowerCall, counts: list[int], layer: int, headless: bool) -> list[Tensor]:
    """(P, 1) per picture."""
    calls = _layer(call, layer)
    if call.grouped:
        scores = torch.cat([received_attention(*_channels(c.query[0], c.key[0], c.scale, headless)) for c in calls])
        return _tokens_in_order(call, scores[:, None], counts)
    source, found = source_of(call), []
    for picture in range(calls[0].query.shape[0]):
        query, key, scale = _channels(calls[0].query[picture], calls[0].key[picture], calls[0].scale, headless)
        if source == CLS:
            everything = torch.ones(1, key.shape[1], dtype=torch.bool, device=key.device)
            found.append(attention_map(query[:, :1], key, everything, scale).mean((0, 1))[1:, None])
        elif source == POOLING:
            found.append(_pooling_attention(call, picture)[:, None])
        else:
            found.append(received_attention(query, key, scale)[:, None])
    return found


def _channels(query: Tensor, key: Tensor, scale: float, headless: bool) -> tuple[Tensor, Tensor, float]:
    """One head over all channels where asked for: (H, P, d) -> (1, P, H * d)."""
    query, key = query.detach(), key.detach()
    if not headless:
        return query, key, scale
    flat = [states.transpose(0, 1).flatten(1)[None] for states in (query, key)]
    return flat[0], flat[1], flat[0].shape[-1] ** -0.5


def _pooling_attention(call: TowerCall, picture: int) -> Tensor:
    """(P,) attention of SigLIP's pooling query, averaged over its heads."""
    assert call.head is not None
    head, hidden = call.head
    with torch.no_grad():
        probe = head.probe.to(hidden.dtype)
        _, weights = head.attention(probe, hidden[picture : picture + 1], hidden[picture : picture + 1])
    return weights[0, 0].float()


def _keys(call: TowerCall, counts: list[int], layer: int) -> list[Tensor]:
    """(P, H * d) per picture, class token left out."""
    calls = _layer(call, layer)
    if call.grouped:
        flat = torch.cat([c.key[0].detach().transpose(0, 1).flatten(1) for c in calls])
        return _tokens_in_order(call, flat, counts)
    first = 1 if source_of(call) == CLS else 0
    return [key.detach().transpose(0, 1).flatten(1)[first:] for key in calls[0].key]


def _features(call: TowerCall, counts: list[int]) -> list[Tensor]:
    """(P, C) per picture, as the projector gets them."""
    if call.projected is None:
        raise MissingSignalError("nothing was seen in front of this model's projector")
    if call.grouped:
        return _tokens_in_order(call, call.projected.flatten(0, -2), counts)
    return list(call.projected.flatten(0, -3))


def _tokens_in_order(call: TowerCall, values: Tensor, counts: list[int]) -> list[Tensor]:
    """(all patches, C) -> (n, C) per picture, a token being the mean of its patches, in the order of the prompt."""
    total = sum(counts)
    if values.shape[0] % total or (call.order is not None and call.order.numel() != total):
        raise _unaligned(f"{values.shape[0]} patches for {total} tokens")
    tokens = values.view(total, values.shape[0] // total, -1).mean(1)
    if call.order is not None:
        tokens = torch.empty_like(tokens).index_copy(0, call.order.to(tokens.device), tokens)
    return list(torch.split(tokens, counts))
