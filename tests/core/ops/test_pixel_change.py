"""Which units are encoded, against a plain transcription, and what must hold of any clip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from framefusion.core.ops.pixel_change import Encoding, encode_changed, encode_distinct, encode_share
from tests.reference.pixel_dedup import encoded_units

GRID = (2, 3)


def clip_of(seed: int, frames: int = 9, share: float = 0.4, pictures: int = 1) -> Tensor:
    """(T, U, F, 3, 14, 14): a share of the units is drawn anew in each frame, others get a little noise."""
    draw = torch.Generator().manual_seed(seed)
    size = (GRID[0] * GRID[1], pictures, 3, 14, 14)
    made = [torch.rand(size, generator=draw)]
    for _ in range(frames - 1):
        new = torch.rand(size[0], generator=draw) < share
        noisy = (made[-1] + 0.02 * torch.randn(size, generator=draw)).clamp(0, 1)
        made.append(torch.where(new[:, None, None, None, None], torch.rand(size, generator=draw), noisy))
    return torch.stack(made)


@pytest.mark.parametrize("refresh", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_decisions_are_those_of_the_transcription(seed: int, refresh: int | None) -> None:
    clip = clip_of(seed, pictures=1 + seed % 2)
    made = encode_changed(clip, GRID, 0.25, refresh)
    encoded, weight = encoded_units(clip.tolist(), GRID[1], 0.25, refresh)
    assert made.encoded.tolist() == encoded
    assert torch.allclose(made.weight, torch.tensor(weight), atol=1e-5)
    assert 0.2 < made.share < 0.95


def test_each_unit_shows_its_last_encoding_and_knows_the_next() -> None:
    made = encode_changed(clip_of(5), GRID, 0.25)
    for unit in range(made.encoded.shape[1]):
        own = made.encoded[:, unit].nonzero().flatten().tolist()
        for frame in range(len(made.encoded)):
            assert made.shows[frame, unit] == max(number for number in own if number <= frame)
            later = [number for number in own if number >= frame]
            assert made.following[frame, unit] == (later[0] if later else made.shows[frame, unit])


def test_a_slow_fade_does_not_vanish() -> None:
    """Each step is far below the threshold, their sum is not."""
    texture = torch.rand(6, 1, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    fade = torch.stack([texture * (1 - 0.002 * frame) for frame in range(300)])
    made = encode_changed(fade, GRID, 0.25)
    assert 1 < int(made.encoded[:, 0].sum()) < 30
    error = (fade - fade.gather(0, made.shows[..., None, None, None, None].expand_as(fade))).abs().amax()
    assert float(error) < 0.1


def test_what_repeats_is_never_encoded_again_whatever_the_refresh() -> None:
    still = clip_of(1, frames=1).expand(20, -1, -1, -1, -1, -1)
    for made in (encode_changed(still, GRID, 0.01, 3), encode_share(still, GRID, 60, 3), encode_distinct(still)):
        assert int(made.encoded.sum()) == 6 and not bool(made.shows.any()) and not bool(made.weight.any())


def test_one_threshold_for_each_place() -> None:
    clip = clip_of(2)
    threshold = torch.tensor([0.0, 0.1, 0.2, 0.4, 0.8, 100.0])
    made = encode_changed(clip, GRID, threshold)
    alone = [encode_changed(clip, GRID, float(value)).encoded[:, unit] for unit, value in enumerate(threshold)]
    assert torch.equal(made.encoded, torch.stack(alone, 1))
    assert int(made.encoded[:, 5].sum()) == 1


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.8])
def test_a_budget_is_met_and_nearly_used(share: float) -> None:
    clip = clip_of(3, frames=24, share=0.3)
    count = round(share * clip.shape[0] * clip.shape[1])
    made = encode_share(clip, GRID, count)
    assert count - 24 <= int(made.encoded.sum()) <= count


@pytest.mark.parametrize("threshold", [0.02, 0.2])
def test_a_budget_that_the_threshold_keeps_changes_nothing(threshold: float) -> None:
    clip = clip_of(5, frames=12)
    alone = encode_changed(clip, GRID, threshold, 4)
    count = int(alone.encoded.sum())
    if count < alone.encoded.numel():
        bounded = encode_share(clip, GRID, count, 4, threshold)
        assert torch.equal(bounded.encoded, alone.encoded) and torch.equal(bounded.weight, alone.weight)
    tight = encode_share(clip, GRID, count - 3, None, threshold)
    assert count / 2 < int(tight.encoded.sum()) <= count - 3


def test_everything_and_one_frame() -> None:
    clip = clip_of(4, frames=3)
    assert bool(encode_share(clip, GRID, 18).encoded.all())
    assert encode_changed(clip[:1], GRID, 0.5).share == encode_distinct(clip[:1]).share == 1.0
    assert Encoding.everything(3, 2).shows.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_frames_that_differ_by_one_value_are_distinct() -> None:
    clip = clip_of(6, frames=1).repeat(4, 1, 1, 1, 1, 1)
    clip[2:, 3, 0, 1, 5, 5] += 1e-6
    assert encode_distinct(clip).encoded.all(1).tolist() == [True, False, True, False]


def test_a_flash_of_one_frame_is_encoded_and_what_follows_it_too() -> None:
    """Also where it is one of two pictures that the tower takes as one."""
    for pictures in (1, 2):
        clip = torch.full((3, 6, pictures, 3, 14, 14), 0.5)
        clip[1, 0, -1] += 0.3
        made = encode_changed(clip, GRID, 0.25)
        assert made.encoded[:, 0].tolist() == [True, True, True]
        assert not bool(made.encoded[1:, 5].any())
