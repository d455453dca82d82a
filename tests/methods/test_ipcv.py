"""IPCV: what it chooses and how it brings patches back, against a plain transcription. The tower: engine/vision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError, OptionError, UnsupportedPointError
from framefusion.core.layout import Geometry
from framefusion.core.method import Signals, before
from framefusion.core.ops.restoring import Gone
from framefusion.testing.signals import make_signals
from tests.reference import ipcv

SIDE = 5


def signals_of(entered: torch.Tensor, left: torch.Tensor, class_token: bool) -> Signals:
    geometry = Geometry.cat([*[Geometry.mark()] * class_token, Geometry.grid(1, SIDE, SIDE)])
    return replace(make_signals(geometry, left, before(3)), entered=lambda: entered)


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("keep", [0.35, 7, 1])
@pytest.mark.parametrize("seed", range(3))
def test_what_stays_equals_the_transcription(seed: int, keep: float, class_token: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    entered, left = torch.randn(2, SIDE**2 + class_token, 6, generator=draw)
    signals = signals_of(entered, left, class_token)
    plan = ff.IPCV(keep=keep, block=3).decide(signals, 3, 8, SIDE**2)
    assert plan is not None
    count = keep if isinstance(keep, int) else round(keep * SIDE**2)
    assert plan.keep.tolist() == ipcv.chosen(entered.tolist(), left.tolist(), count, class_token)
    assert torch.equal(plan.apply(left), left[plan.keep])
    assert ff.IPCV(keep=keep, block=2).decide(signals, 3, 8, SIDE**2) is None


@pytest.mark.parametrize("neighbours", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_what_left_comes_back_as_in_the_transcription(seed: int, neighbours: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    parts, whole, later = [], [], []
    for picture, kept in enumerate(([0, 3, 4, 9, 11], [1, 2])):
        states = torch.randn(12 + picture, 6, generator=draw)
        now = torch.randn(len(kept), 6, generator=draw)
        near = ipcv.neighbours_of(states.tolist(), kept, min(neighbours, 2))
        whole += ipcv.restored(states.tolist(), dict(zip(kept, now.tolist(), strict=True)), near)
        parts.append(Gone.of(states, torch.tensor(kept), min(neighbours, 2)))
        later.append(now)
    gone = Gone.joined(parts)
    assert torch.allclose(gone.restored(torch.cat(later)), torch.tensor(whole), atol=1e-5)
    unchanged = torch.cat([part.states[part.keep] for part in parts])
    assert torch.allclose(gone.restored(unchanged), torch.cat([part.states for part in parts]), atol=1e-6)


@pytest.mark.parametrize(("blocks", "early", "reading"), [(32, 3, 7), (27, 3, 6), (24, 2, 5), (12, 1, 3), (2, 1, 0)])
def test_blocks_follow_from_the_depth_of_the_tower(blocks: int, early: int, reading: int) -> None:
    method, states = ff.IPCV(), torch.randn(SIDE**2, 4)
    signals = signals_of(states, states + 1, False)
    acting = [block for block in range(blocks) if method.decide(signals, block, blocks, SIDE**2) is not None]
    assert (acting, method.blocks_reading(blocks)) == ([early], reading)


def test_a_block_that_is_not_there_is_refused() -> None:
    states = torch.randn(SIDE**2, 4)
    with pytest.raises(UnsupportedPointError, match="no block behind the first 8"):
        ff.IPCV(block=8).decide(signals_of(states, states, False), 0, 8, SIDE**2)


def test_what_entered_a_block_is_known_inside_the_tower_only() -> None:
    with pytest.raises(MissingSignalError, match="inside the tower only"):
        make_signals(Geometry.grid(1, 2, 2), torch.zeros(4, 2), before(1)).entered()


@pytest.mark.parametrize("options", [{"keep": 0.0}, {"block": 0}, {"reading": -1}, {"neighbours": 0}])
def test_bad_options_raise(options: dict) -> None:
    with pytest.raises(OptionError):
        ff.IPCV(**options)
