"""A vision tower that encodes the units chosen by their pixels, and no others.

The tower's own forward runs on fewer rows. Rows meet in its attention alone: there queries, keys and values are spread
over the whole frames, where a unit that is not encoded shows those of the last encoding of its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.vision.encoded import Encoded
from framefusion.engine.vision.pixels import UnitGrid
from framefusion.engine.vision.rows import EncodedRows
from framefusion.integrations.vllm.pixels import shown_frames
from framefusion.integrations.vllm.tower import attentions

if TYPE_CHECKING:
    from torch import Tensor, nn

PER_ROW = ("rotary_pos_emb_cos", "rotary_pos_emb_sin", "pos_embeds")
WINDOWS, BACK = "window_index", "reverse_indices"
# Its kernel is told where values lie by offsets into what the projection returned.
FIXED_OFFSETS = "FLASHINFER"


def can_leave_out(vllm_config: Any, tower: nn.Module) -> bool:
    """Whether this engine runs the tower in a way that lets rows be left out; else all are encoded."""
    backends = {getattr(getattr(module, "attn_backend", None), "name", "") for module in tower.modules()}
    spread = vllm_config.model_config.multimodal_config.mm_encoder_tp_mode == "data"
    compiled = getattr(vllm_config.compilation_config, "compile_mm_encoder", False)
    return bool(attentions(tower)) and FIXED_OFFSETS not in backends and not spread and not compiled


class LeavingOut:
    """Of one tower. Does nothing but inside `only`."""

    def __init__(self, tower: nn.Module) -> None:
        self._coming: Sequence[Tensor] = ()
        self._rows: EncodedRows | None = None
        self._source = torch.zeros(0, dtype=torch.long)
        for module in attentions(tower):
            module.register_forward_pre_hook(self._spread, with_kwargs=True)
            module.register_forward_hook(self._cut)

    @contextmanager
    def only(self, encoded: Sequence[Tensor]) -> Iterator[None]:
        """Inside, the tower runs on videos of which these units (T, rows, columns) are encoded."""
        self._coming = () if all(bool(units.all()) for units in encoded) else encoded
        try:
            yield
        finally:
            self._coming, self._rows = (), None

    def _spread(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Queries, keys and values of all rows, (1, K, …) each -> (1, S, …), or (B, P, …)."""
        rows = self._rows
        if rows is None:
            return None

        def whole(value: Any) -> Any:
            if not (isinstance(value, torch.Tensor) and value.ndim > 2):
                return value
            found = value.index_select(1, rows.source)
            return found if rows.batch is None else found[0].unflatten(0, rows.batch)

        return tuple(map(whole, args)), {name: whole(value) for name, value in kwargs.items()}

    def _cut(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        rows = self._rows
        if rows is None:
            return None
        flat = output if rows.batch is None else output.flatten(0, 1)[None]
        return flat.index_select(1, rows.keep)


class SequenceTower(LeavingOut):
    """All pictures in one sequence of patches, those of a unit next to each other: the towers of Qwen-VL.

    The tower is given the rows of encoded units alone.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__(tower)
        tower.register_forward_pre_hook(self._before, with_kwargs=True)
        tower.register_forward_hook(self._after)

    def _before(self, tower: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        if not self._coming:
            return None
        given, side = kwargs["grid_thw"], tower.spatial_merge_size
        sizes = given if isinstance(given, list) else given.tolist()
        whole = _whole(self._coming, sizes, side)
        # Frames without an encoded unit are left out altogether: nobody reads them.
        videos = [encoded[encoded.flatten(1).any(1)] for encoded in whole]
        kept = [[len(video), *size[1:]] for video, size in zip(videos, sizes, strict=True)]
        metadata = dict(tower.prepare_encoder_metadata(kept))
        self._rows = _cut_metadata(metadata, encoded_of(videos, side, grouped=True), side**2)
        self._source = _sources(whole).to(args[0].device)
        return args, {"grid_thw": kept, "encoder_metadata": metadata}

    def _after(self, tower: Any, args: tuple, output: Tensor) -> Tensor | None:
        """(K, D) of the encoded units -> what every unit shows."""
        rows, self._rows = self._rows, None
        return None if rows is None else output.index_select(0, self._source)


class PictureTower(LeavingOut):
    """Every picture is a row of a batch, its patches in reading order: SigLIP, CLIP and InternVL's tower."""

    def __init__(self, tower: Any) -> None:
        super().__init__(tower)
        encoder = next(part for name, part in tower.named_modules() if name.rpartition(".")[2] == "encoder")
        encoder.register_forward_pre_hook(self._before, with_kwargs=True)
        encoder.register_forward_hook(self._after)

    def _before(self, encoder: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        if not self._coming:
            return None
        hidden = kwargs["inputs_embeds"]
        rows, columns = (max(encoded.shape[side] for encoded in self._coming) for side in (1, 2))
        videos = [encoded.expand(-1, rows, columns) for encoded in self._coming]
        made = encoded_of(videos, isqrt(hidden.shape[1] // (rows * columns)), grouped=False)
        shown = made.shown_rows(hidden.shape[1]).to(hidden.device)
        self._rows = EncodedRows(shown, None, (hidden.shape[0], hidden.shape[1]), reuse=True)
        return args, {**kwargs, "inputs_embeds": self._rows.cut_hidden(hidden)}

    def _after(self, encoder: Any, args: tuple, output: Any) -> Any:
        """Of the last layer, or a list of all."""
        rows, self._rows = self._rows, None
        if rows is None:
            return None
        if isinstance(output, list):
            return [rows.expand(values, number) for number, values in enumerate(output)]
        return rows.expand(output, "last")


def encoded_of(videos: Sequence[Tensor], side: int, grouped: bool) -> Encoded:
    """videos: (T, rows, columns) bool, units of each that are encoded. side: patches along that of a unit."""
    shows: list[Tensor] = []
    grids: list[UnitGrid] = []
    for video in videos:
        shows += (shown_frames(video).flatten(1) + len(shows)).unbind()
        grids += [UnitGrid(video.shape[1], video.shape[2], side, 1, grouped)] * len(video)
    return Encoded(shows, shows, [torch.zeros(1)] * len(shows), grids)


def filled(pixels: Tensor, encoded: Sequence[Tensor], sizes: Sequence[Sequence[int]], side: int) -> Tensor:
    """For a tower that can only encode everything: (K, D) rows of patches of encoded units -> (S, D) of all, in which
    others repeat the last encoded one of their place.

    encoded: units of each video. sizes: its frames, and patches down and across. side: patches along that of a unit.
    """
    source = _sources(_whole(encoded, sizes, side)).to(pixels.device)
    return pixels.unflatten(0, (-1, side**2)).index_select(0, source).flatten(0, 1)


def _whole(encoded: Sequence[Tensor], sizes: Sequence[Sequence[int]], side: int) -> list[Tensor]:
    """(T, rows, columns) of each video, also where one entry speaks for a whole frame."""
    grids = [(frames, height // side, width // side) for frames, height, width in sizes]
    return [units.expand(grid) for units, grid in zip(encoded, grids, strict=True)]


def _cut_metadata(metadata: dict[str, Any], encoded: Encoded, group: int) -> EncodedRows:
    """Leave of what the tower knows about each row what is said of encoded ones. group: rows of a unit."""
    device = metadata[PER_ROW[0]].device
    windows = metadata.get(WINDOWS)
    order = None
    if windows is not None:
        order = (windows[:, None] * group + torch.arange(group, device=device)).flatten()
    rows = EncodedRows(encoded.shown_rows(None).to(device), order, None, reuse=True)
    for name in {*PER_ROW} & {*metadata}:
        metadata[name] = metadata[name].index_select(0, rows.keep)
    if windows is not None:
        own = rows.own[::group]
        metadata[WINDOWS] = (own.cumsum(0) - 1)[windows[own[windows]]]
        metadata[BACK] = metadata[WINDOWS].argsort()
    return rows


def _sources(videos: Sequence[Tensor]) -> Tensor:
    """(N,) which of the encoded units each unit of all videos shows."""
    place, shown = 0, []
    for video in videos:
        units = video[0].numel()
        shown.append(place + shown_frames(video).flatten(1) * units + torch.arange(units))
        place += video.numel()
    rank = torch.cat([video.flatten() for video in videos]).cumsum(0) - 1
    return rank[torch.cat([part.flatten() for part in shown])]
