"""Signals of random sizes against the plain transcriptions: odd grids, few tokens, ties, all kinds of budgets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.core.method import Signals
from framefusion.methods.fastvid import FastVID
from framefusion.methods.holitom_outer import HoliTomOuter
from framefusion.methods.holov import HoloV
from framefusion.methods.sttm import STTM
from framefusion.methods.vispruner import VisPruner
from tests.methods.decoder import cells
from tests.methods.test_fastervlm import reference as vispruner_reference
from tests.methods.test_fastvid import compare as compare_fastvid
from tests.methods.test_holitom_outer import compare as compare_holitom_outer
from tests.methods.test_holov import reference as holov_reference
from tests.reference import sttm
from tests.support.looking import film, kept_by, plan_of, row

SEEDS = range(12)


def clip_of(draw: random.Random, frames: int, side: int) -> Geometry:
    geometry = Geometry.grid(draw.randint(1, frames), draw.randint(1, side), draw.randint(1, side))
    if draw.random() < 0.3 and len(geometry) > 4:
        geometry = geometry[torch.tensor(sorted(draw.sample(range(len(geometry)), 2 * len(geometry) // 3)))]
    return geometry


def signals_of(draw: random.Random, geometry: Geometry) -> Signals:
    """Random, repeating or scene-like states."""
    seed = draw.randint(0, 10**6)
    if draw.random() < 0.6:
        return film(geometry, seed, change=draw.choice([0.1, 0.3, 0.6]))
    return row(geometry, draw.choice(["random", "pairs", "some zeros"]), seed)


def keep_of(draw: random.Random, most: int) -> float | int:
    return draw.choice([draw.uniform(0.02, 0.98), draw.randint(1, max(1, most)), 1])


@pytest.mark.parametrize("seed", SEEDS)
def test_vispruner(seed: int) -> None:
    draw = random.Random(seed)
    signals = signals_of(draw, clip_of(draw, 2, 13))
    method = VisPruner(keep_of(draw, 60), draw.choice([0.0, 0.3, 0.5, 1.0]))
    assert kept_by(method, signals) == vispruner_reference(method, signals)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", ["crop", "clip"])
def test_holov(scale: str, seed: int) -> None:
    draw = random.Random(seed)
    signals = signals_of(draw, clip_of(draw, 3, 9))
    method = HoloV(keep_of(draw, 80), draw.randint(1, 20), draw.choice([0.09, 2.0]), scale=scale)  # type: ignore[arg-type]
    assert kept_by(method, signals) == holov_reference(method, signals)


@pytest.mark.parametrize("seed", SEEDS)
def test_holitom_outer(seed: int) -> None:
    draw = random.Random(seed)
    signals = signals_of(draw, clip_of(draw, 7, 6))
    method = HoliTomOuter(keep_of(draw, 60), draw.choice([0.3, 0.65, 0.8, 0.95]), draw.choice([0.0, 0.6]))
    compare_holitom_outer(method, signals)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("variant", ["exact", "llava_onevision", "llava_video"])
def test_fastvid(variant: str, seed: int) -> None:
    draw = random.Random(seed)
    signals = signals_of(draw, clip_of(draw, 10, 6))
    method = FastVID(
        keep_of(draw, 20),
        draw.randint(1, 8),
        draw.choice([-1.0, 0.5, 0.9]),
        draw.choice([0.0, 0.4, 0.7, 1.0]),
        draw.randint(1, 4),
        draw.choice([0.1, 0.6]),
        variant=variant,  # type: ignore[arg-type]
    )
    compare_fastvid(method, signals)


@pytest.mark.parametrize("seed", SEEDS)
def test_sttm_strict(seed: int) -> None:
    draw = random.Random(seed)
    geometry = clip_of(draw, 5, 9)
    hidden = film(geometry, seed, change=draw.choice([0.2, 0.5, 1.0])).hidden()
    threshold, temporal = draw.choice([(0.85, 0.65), (0.7, 0.8), (0.9, 1.0), (0.5, 0.3)])
    plan = plan_of(STTM(threshold, temporal, root=1, strict=True), replace(row(geometry), hidden=lambda: hidden))
    everyone = list(range(len(geometry)))
    groups = sttm.published_groups(
        hidden.tolist(),
        cells(geometry, everyone),
        threshold,
        None if temporal == 1.0 else temporal,
    )
    assert plan.keep.tolist() == [group[0] for group, _ in groups]
    assert plan.sizes(torch.ones(len(geometry))).tolist() == [len(group) for group, _ in groups]
    torch.testing.assert_close(plan.apply(hidden), torch.tensor([value for _, value in groups]), atol=1e-5, rtol=1e-4)
