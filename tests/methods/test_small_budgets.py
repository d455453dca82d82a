"""Every method with next to nothing to keep, on every layout: whole rows of newlines and markers may go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError, OptionError
from framefusion.core.layout import MARKER, PATCH, Geometry
from framefusion.core.method import Method
from framefusion.core.plan import GONE, Plan, compose
from framefusion.core.registry import methods
from framefusion.core.stage import join
from framefusion.testing.methods import can_walk, geometries, layers_needed, make_row, walk
from tests.support.tiny import build_model, moving_clip, prompt

BUDGETS: tuple[Any, ...] = (1, 0.01, 0.3, -1.0)


def tiled(side: int, rows: int, columns: int) -> Geometry:
    """A base picture and the tiles it was cut into, each row of which is closed by a newline."""
    tiles = Geometry.grid(1, rows, columns, row_newline=True)
    return Geometry.cat([Geometry.grid(1, side, side), tiles.as_clip(0, first_frame=1)])


def marked(frames: int, side: int) -> Geometry:
    """Frames each row of which a marker opens, and each of which a marker of no row closes."""
    parts = []
    for frame in range(frames):
        rows = Geometry.grid(1, side, side + 1)
        rows = replace(rows, kind=torch.where(rows.column == 0, MARKER, rows.kind))
        end = Geometry.newline(0, side * (side + 1))
        parts += [part.as_clip(0, frame) for part in (rows, replace(end, kind=torch.full_like(end.kind, MARKER)))]
    return Geometry.cat(parts)


LAYOUTS = {
    **geometries(),
    "one tile": tiled(4, 4, 4),
    "tiles": tiled(3, 6, 5),
    "two tiled pictures": Geometry.cat([tiled(3, 3, 3), tiled(2, 4, 2).as_clip(1)]),
    "markers": marked(3, 3),
    "one column": Geometry.grid(3, 4, 1, row_newline=True),
    "newline alone": Geometry.grid(2, 2, 3, row_newline=True)[torch.tensor([3, 4, 5, 6, 7, 15])],
    "newlines only": Geometry.grid(2, 2, 3, row_newline=True)[torch.tensor([3, 7, 15])],
}


def small(cls: type[Method]) -> Iterator[Method]:
    for budget in BUDGETS:
        try:
            yield cls(**{cls.facts.budget: budget})
        except OptionError:
            continue


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", list(methods))
def test_every_method_leaves_something_of_every_layout(name: str, layout: str) -> None:
    cls = methods.load(name)
    if not can_walk(cls):
        pytest.skip(f"{name} acts inside the vision tower")
    geometry = LAYOUTS[layout]
    for seed in range(2):
        hidden = torch.randn(len(geometry), 16, generator=torch.Generator().manual_seed(seed))
        for method in small(cls):
            end = walk(method, make_row(layout, geometry, hidden, seed), layers_needed(method)).end
            assert len(end.geometry) > 0
            # To FrameFusion newlines are tokens like any other, so one may be all that is left.
            if name != "framefusion" and layout != "newlines only":
                assert bool((end.geometry.kind == PATCH).any())
            assert float(end.size.sum()) <= len(geometry)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "newlines only"])
def test_one_patch_keeps_the_newline_of_its_row_alone(layout: str) -> None:
    geometry = LAYOUTS[layout]
    hidden = torch.randn(len(geometry), 16, generator=torch.Generator().manual_seed(1))
    left = walk(ff.Random(keep=1, layer=0), make_row(layout, geometry, hidden)).end.geometry
    patches, others = left[left.kind == PATCH], left[left.kind != PATCH]
    assert len(patches) == geometry.clip.unique().numel()
    places = set(zip(patches.clip.tolist(), patches.frame.tolist(), patches.row.tolist(), strict=True))
    for clip, frame, row in zip(others.clip.tolist(), others.frame.tolist(), others.row.tolist(), strict=True):
        assert row < 0 or (clip, frame, row) in places


def test_a_part_without_survivors_joins() -> None:
    gone = torch.zeros(0, dtype=torch.long)
    parts = [(torch.tensor([0, 2]), Plan.select(torch.tensor([1]), 2)), (torch.tensor([1, 3]), Plan.select(gone, 2))]
    plan = join(4, parts)
    assert plan.keep.tolist() == [2] and plan.owner.tolist() == [GONE, GONE, 0, GONE]
    nothing = join(2, [(torch.tensor([0, 1]), Plan.select(gone, 2))])
    assert nothing.kept == 0 and nothing.owner.tolist() == [GONE, GONE]
    assert compose(nothing.owner, gone).tolist() == [GONE, GONE]
    assert compose(plan.owner, torch.tensor([0])).tolist() == plan.owner.tolist()


METHODS = (
    ff.DivPrune(keep=0.3),
    ff.DivPrune(keep=1),
    ff.FastV(keep=1, layer=1),
    ff.FastV(keep=0.05, layer=2),
    ff.Random(keep=1),
    ff.Random(keep=2, layer=1),
    ff.Uniform(keep=1),
    ff.PyramidDrop(keep=1, layers=(1, 2)),
    ff.Chain(ff.Random(keep=0.5), ff.FastV(keep=1, layer=2)),
    ff.Chain(ff.FrameFusion(cost=0.1, similarity_lower_bound=0.6), ff.Random(keep=1, layer=3)),
)


TILED = ("llava_onevision", "llava_next_video")


def one_tile(family: str) -> dict[str, torch.Tensor]:
    picture = moving_clip(frames=1, height=28, width=28)[0]
    return prompt(family, [[("image", picture), ("text", "what is this?")]])


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("family", TILED)
def test_a_picture_of_one_tile_generates(family: str, method: Method) -> None:
    """The base picture and one tile hold the same patches, so that all of one or the other's rows may go."""
    model, inputs = build_model(family, layers=max(4, layers_needed(method))), one_tile(family)
    with torch.no_grad(), ff.reduce(model, method) as reduction:
        answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)  # type: ignore[operator]
        model(**inputs)
    layout = reduction.report.layout
    assert layout is not None and bool((layout.rows[0][0].kind != PATCH).any())
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 3
    assert 0 < reduction.report.kept_tokens < reduction.report.visual_tokens


@pytest.mark.parametrize("family", TILED)
def test_a_still_has_nothing_that_repeats_along_time(family: str) -> None:
    model = build_model(family)
    with torch.no_grad(), ff.reduce(model, ff.EVS(keep=0.01)) as reduction:
        model(**one_tile(family))
    assert reduction.report.kept_tokens == reduction.report.visual_tokens


@pytest.mark.parametrize("method", [ff.FasterVLM(keep=1), ff.VisionZip(keep=2)], ids=str)
@pytest.mark.parametrize("family", TILED)
def test_tower_scores_of_a_tiled_picture_are_refused(family: str, method: Method) -> None:
    """The tower encodes base and tile as two pictures, the prompt shows one."""
    model = build_model(family)
    with (
        torch.no_grad(),
        ff.reduce(model, method),
        pytest.raises(MissingSignalError, match="not cut into tiles"),
    ):
        model(**one_tile(family))
