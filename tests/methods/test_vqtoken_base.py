"""VQToken's base against its reference."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.kmeans import spread_seeds
from framefusion.core.ops.similarity import unit_rows
from framefusion.methods.vqtoken_base import VQTokenBase
from tests.reference.vqtoken_base import vqtoken_base
from tests.support.looking import film
from tests.support.selection import FAMILIES, SHAPES, assert_clips_are_apart, model_of, noise, plan_of
from tests.support.tiny import moving_clip, prompt

SMALL = {name: SHAPES[name] for name in ("4x4x4", "2x3x3", "1x4x4", "1x1x1", "thinned")}


def few(geometry, seed=0, dtype=torch.float32):
    """(N, 6) hidden states: the reference takes its time for each width."""
    return noise(geometry, seed, dtype)[:, :6]


def compare(method, geometry, hidden, size=None):
    plan, most = plan_of(method, geometry, hidden, size), kept_count(method.keep, len(geometry))
    assert plan.kept <= most
    if most == len(geometry):
        assert torch.equal(plan.apply(hidden), hidden)
        return plan
    lots = torch.rand(most, generator=torch.Generator().manual_seed(method.seed), dtype=torch.float64).tolist()
    sizes = [1.0] * len(geometry) if size is None else size.tolist()
    values = vqtoken_base(hidden.double().tolist(), sizes, lots, kept_count(method.least, most), method.strict)
    assert plan.keep.tolist() == list(values)
    torch.testing.assert_close(plan.apply(hidden.float()), torch.tensor(list(values.values())), atol=1e-5, rtol=1e-5)
    return plan


@pytest.mark.parametrize("shape", list(SMALL))
@pytest.mark.parametrize("keep", [0.1, 0.3, 1.0, 1, 2, 20])
def test_plan_is_the_reference(shape, keep):
    compare(VQTokenBase(keep), SMALL[shape], few(SMALL[shape]))


@pytest.mark.parametrize("keep", [0.3, 2, 20])
def test_published_count_and_values_are_the_reference(keep):
    compare(VQTokenBase(keep, strict=True), SMALL["4x4x4"], 30.0 * few(SMALL["4x4x4"]))


@pytest.mark.parametrize("options", [{"least": 1}, {"least": 0.01}, {"seed": 7}, {"keep": 3}], ids=str)
def test_films_of_scenes(options):
    geometry = Geometry.grid(6, 3, 3)
    compare(VQTokenBase(**({"keep": 20} | options)), geometry, film(geometry, 0).hidden())


@pytest.mark.parametrize("fill", ["equal", "zeros", "pairs", "half zeros"])
@pytest.mark.parametrize("keep", [1, 0.3])
def test_duplicates(fill, keep):
    geometry = Geometry.grid(4, 3, 3)
    hidden = few(geometry)
    hidden = {
        "equal": hidden[:1].repeat(36, 1),
        "zeros": hidden * 0,
        "pairs": hidden[torch.arange(36) // 2],
        "half zeros": hidden * (torch.arange(36) % 2)[:, None],
    }[fill]
    for strict in (False, True):
        plan = compare(VQTokenBase(keep, strict=strict), geometry, hidden)
        assert fill not in ("equal", "zeros") or plan.kept == 1


def test_groups_of_tokens_become_one_token_each():
    """Six directions, of which each frame shows all: the loss bends where every one has its cluster."""
    geometry = Geometry.grid(8, 3, 4)
    centre = torch.eye(6, 16)[torch.arange(96) % 6]
    hidden = (centre + 0.01 * noise(geometry)) * (1.0 + torch.arange(96)[:, None] % 5)
    plan = compare(VQTokenBase(12, least=0.25), geometry, hidden)
    assert plan.kept == 6
    for survivor in range(6):
        owned = (plan.owner == survivor).nonzero().flatten()
        assert len(set((owned % 6).tolist())) == 1 and len(owned) == 16


def test_the_published_count_is_at_most_twenty_two():
    geometry = Geometry.grid(9, 5, 5)
    for seed in range(3):
        hidden = noise(geometry, seed)
        assert 12 <= plan_of(VQTokenBase(strict=True), geometry, hidden).kept <= 22
        assert 12 <= plan_of(VQTokenBase(), geometry, hidden).kept <= 32


def test_least_of_one_takes_the_most():
    geometry = SHAPES["9x3x5"]
    assert plan_of(VQTokenBase(9, least=1.0), geometry, noise(geometry)).kept == 9


def test_published_values_are_means_of_directions():
    geometry = Geometry.grid(4, 4, 4)
    hidden = 30.0 * noise(geometry)
    plan = plan_of(VQTokenBase(4, strict=True), geometry, hidden)
    assert bool((plan.apply(hidden).norm(dim=-1) <= 1.0 + 1e-5).all())


def test_earlier_merges_weigh():
    geometry = Geometry.grid(6, 3, 3)
    compare(VQTokenBase(0.3), geometry, few(geometry), 1.0 + torch.arange(54) % 4)


def test_seeds_neither_read_nor_move_the_global_generator():
    unit = unit_rows(noise(SHAPES["6x5x7"]))
    torch.manual_seed(1)
    first, state = spread_seeds(unit, 32, 0), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(spread_seeds(unit, 32, 0), first)
    assert not torch.equal(spread_seeds(unit, 32, 1), first)
    assert torch.equal(spread_seeds(unit, 7, 0), first[:7]) and len(first.unique()) == 32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    compare(VQTokenBase(8), SMALL["4x4x4"], few(SMALL["4x4x4"], dtype=dtype))


def test_clips_do_not_mix():
    assert_clips_are_apart(VQTokenBase(0.4))


@pytest.mark.parametrize(
    "options",
    [{"keep": 0}, {"least": 0}, {"least": 1.1}, {"seed": -1}, {"strict": True, "proportional_attention": True}],
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        VQTokenBase(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_model_a_clip_is_a_few_tokens(family):
    inputs = prompt(family, [[("video", moving_clip(seed=0, change=1.0)), ("text", "what?")]])
    with torch.no_grad(), ff.reduce(model_of(family), VQTokenBase(16)) as reduction:
        model_of(family).generate(**inputs, max_new_tokens=2, do_sample=False)
    newline = 1 if family == "llava_onevision" else 0
    assert 6 <= reduction.report.kept_tokens - newline <= 16
