"""Families whose pictures are runs of one fixed number of tokens, and whose videos are series of such pictures.

The frames of a video are told by the stamp in front of each; a picture without one is a still. Where the families have
no videos at all, every picture is a still, and `framefusion.reduce(..., pictures_are_frames=True)` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, flat_frames, lay_sized
from framefusion.models.placeholders import placeholder_ids
from framefusion.models.runs import Piece, Run, lay_pieces, run_lengths, runs_of
from framefusion.models.stamps import CLOCK, NUMBERED, Ids, tells_time

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_TILE = ("image_seq_length", "mm_tokens_per_image")


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """Every picture is a still of the number of tokens the configuration names, or of its run."""
    tokens = placeholder_ids(config)
    each = next((getattr(config, n) for n in TOKENS_PER_TILE if getattr(config, n, None)), None)
    lengths = [count for token in tokens for count in run_lengths(ids, token)]
    if each is None or any(count % each for count in lengths):
        return by_runs(config, inputs, ids)
    return lay_sized(ids, tokens, each)


def internvl(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """A run is the tiles of a picture, or one frame behind `Frame1: `."""
    each = config.image_seq_length
    rows = [_stamped(runs_of(row, placeholder_ids(config)), each, NUMBERED.follows) for row in ids.cpu()]
    return lay_pieces(ids, rows)


def smolvlm(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """A run is a picture, a tile of one, or a frame behind `Frame from 00:01:` and the two tokens that open it."""

    def follows(first: Ids, opening: Ids) -> bool:
        return tells_time(opening, behind=2) and CLOCK.follows(first, opening)

    rows = [_stamped(runs_of(row, placeholder_ids(config)), 0, follows) for row in ids.cpu()]
    return lay_pieces(ids, rows)


def _stamped(runs: Sequence[Run], each: int, follows: Callable[[Ids, Ids], bool]) -> list[Piece]:
    """each: tokens of a tile, 0 where a run is never more than one."""
    pieces: list[Piece] = []
    first: Ids = ()
    size = 0
    for run in runs:
        parts = run.columns.split(each) if each and len(run) % each == 0 else (run.columns,)
        frame = len(parts) == 1 and len(run) == size and follows(first, run.opening)
        if not frame:
            first, size = run.opening, len(run) if len(parts) == 1 else 0
        pieces += [Piece(part, flat_frames(1, len(part)), follows=frame) for part in parts]
    return pieces


INTERNVL = Family("internvl", internvl, similarity_lower_bound=0.5)
SMOLVLM = Family("smolvlm", smolvlm)
LLAVA = Family("llava", layout, video_as_images=True)
GEMMA3 = Family("gemma3", layout, video_as_images=True)
