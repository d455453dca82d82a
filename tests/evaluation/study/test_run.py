"""A small study: every cell, the same questions, and a stopped run that goes on."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest

import framefusion as ff
from framefusion.core.errors import AttentionError, MissingPackageError, OptionError
from framefusion.evaluation import Asking, Records, runner
from framefusion.evaluation.precision_switch import PrecisionSwitch
from framefusion.evaluation.shared_tower import shared_tower
from framefusion.evaluation.study.grid import Grid, widest
from framefusion.evaluation.study.rows import Row, read_rows
from framefusion.evaluation.study.run import study
from framefusion.inference.answer.batch import ask_rows
from framefusion.inference.quantization import Precision, Width, apply, libraries
from tests.evaluation.ground import Ground, checkpoint

SIM8, SIM4, SIM2 = (Width(bits, simulated=True) for bits in (8, 4, 2))
FUSION = ff.FrameFusion(similarity_lower_bound=0.9)
GRID = Grid(
    (FUSION, ff.Random()), (1.0, 0.5), (Width(), SIM4), (Width(), SIM8), (Width(), SIM2), common=Precision(group=16)
)
ASKING = Asking(batch=4, new_tokens=3, share_tower=True)


@pytest.fixture(scope="module")
def model():
    return checkpoint("qwen2_5_vl")


@pytest.fixture(scope="module")
def found(model):
    return study(model, GRID, samples=8, asking=ASKING, records=Records(None), yardstick=Ground())


def test_every_cell_has_a_row(found):
    assert len(found.rows) == 3 * 8 and len({row.id for row in found.rows}) == 24
    assert len({row.cell for row in found.rows}) == 24
    assert found.rows[0].id == "dense 1 W16 A16 KV16"
    assert all(row.questions == 8 for row in found.rows)
    assert "framefusion 0.5 W4* A8* KV2*" in {row.id for row in found.rows}


def test_rows_say_what_tokens_and_bits_cost(found):
    rows = {row.id: row for row in found.rows}
    dense, fewer = rows["dense 1 W16 A16 KV16"], rows["random 0.5 W16 A16 KV16"]
    narrow, both = rows["dense 1 W4* A16 KV2*"], rows["random 0.5 W4* A16 KV2*"]
    assert fewer.cost == pytest.approx(0.5, abs=0.05) and fewer.kept == pytest.approx(0.5, abs=0.05)
    # Two bits and, for each group of 16 values, a scale and a least value: 4 of 16 bits.
    assert narrow.kv_bytes == pytest.approx(dense.kv_bytes * 4 / 16)
    assert both.kv_bytes == pytest.approx(fewer.kv_bytes * 4 / 16)
    assert fewer.kv_bytes < dense.kv_bytes and narrow.weight_bytes < dense.weight_bytes == fewer.weight_bytes
    assert dense.against.difference.value == 0 and not dense.simulated and both.simulated
    assert all(row.prefill_ms is None for row in found.rows)
    assert {"perception", "retrieval"} == set(dense.tasks)


def test_rows_are_read_back(found):
    text = "".join(row.to_line() for row in found.rows)
    again = read_rows(text)
    assert [row.id for row in again] == [row.id for row in found.rows]
    assert again[3].accuracy == found.rows[3].accuracy and again[3].against.wins == found.rows[3].against.wins
    assert "".join(row.to_line() for row in again) == text
    assert isinstance(again[0], Row)


class Killed(BaseException):
    """Stands for a signal."""


def test_a_killed_study_goes_on(model, found, tmp_path, monkeypatch):
    file, asked, real = tmp_path / "answers.jsonl", [], runner.ask_rows

    def stops(narrowed, prompts, *rest):
        if len(asked) == 20:
            raise Killed
        asked.append(len(prompts))
        return real(narrowed, prompts, *rest)

    monkeypatch.setattr(runner, "ask_rows", stops)
    options = {"samples": 8, "asking": ASKING, "records": file, "yardstick": Ground()}
    with pytest.raises(Killed):
        study(model, GRID, **options)
    before = sum(asked)
    asked[:] = [0] * 21
    again = study(model, GRID, **options)
    assert 0 < before == 24 * 8 - sum(asked)
    assert [(row.id, row.accuracy, row.kv_bytes) for row in again.rows] == [
        (row.id, row.accuracy, row.kv_bytes) for row in found.rows
    ]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_a_shared_tower_changes_no_answer(family, monkeypatch):
    """Also for methods that look into the tower, act in front of its projector, or in its blocks."""
    model = checkpoint(family)
    prompts = runner.Prompts(
        ASKING.prompt(model, question) for question in Ground().samples(6) if question.question == "which?"
    )
    methods = [None, ff.PruMerge(keep=0.4), ff.Random(keep=0.4), ff.PruMerge(keep=0.3), ff.ToMe(), None]
    methods = methods if family == "llava_onevision" else [one for one in methods if not isinstance(one, ff.ToMe)]
    tower = getattr(model.model.model, "visual", None) or model.model.model.vision_tower
    calls = []
    handle = next(part for part in tower.modules() if not list(part.children())).register_forward_pre_hook(
        lambda *_: calls.append(0)
    )

    def answers():
        found = [ask_rows(model, prompts, method, 3) for method in methods]
        return [(row.text, row.kept_tokens, round(row.confidence, 5)) for rows in found for row in rows]

    expected, alone = answers(), len(calls)
    calls.clear()
    with shared_tower(model.model):
        assert answers() == expected
    handle.remove()
    assert 0 < len(calls) < alone
    assert "forward" not in vars(tower)


def test_narrowing_restores_between_arms(model):
    prompts = [ASKING.prompt(model, question) for question in Ground().samples(1)]

    def said(one):
        return ask_rows(one, prompts, None, 3)[0].confidence

    plain = said(model)
    with PrecisionSwitch(model, share_tower=True) as switch:
        narrow = said(switch.to(Precision.parse("weights=sim2")))
        tower = said(switch.to(Precision.parse("weights=sim2,tower=true")))
        assert said(switch.to(Precision())) == said(switch.to(None)) == plain
    assert len({plain, narrow, tower}) == 3 and said(model) == plain


def test_impossible_combinations_are_left_out_aloud(model):
    grid = Grid((), (1.0,), (Width(),), (Width(), Width(8)))
    assert [str(one) for one in grid.precisions()] == [""] and "integer weights" in grid.impossible[0]
    with pytest.raises(OptionError, match="no combination"):
        Grid((), (1.0,), (Width(),), (Width(8),)).precisions()


def test_the_widest_is_the_reference():
    assert str(widest(GRID.precisions())) == ""
    narrow = Grid((), (1.0,), (SIM4, SIM8), (SIM8,), (SIM2, SIM8), attentions=("sage-emulated", None))
    assert str(widest(narrow.precisions())) == "weights=sim8,activations=sim8,kv=sim8"


@pytest.mark.parametrize("budgets", [(), (0.0,), (1.5,)])
def test_budgets_out_of_range(budgets):
    with pytest.raises(OptionError):
        Grid((), budgets)


LIBRARY = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")


@LIBRARY
@pytest.mark.parametrize("share", [False, True])
def test_a_library_converts_the_model_once_per_precision(share, monkeypatch):
    """Not for every batch: with HQQ or int4 that takes minutes for a large model. Once more to look at it first."""
    model, made, real = checkpoint("qwen2_5_vl"), [], apply.Quantised
    monkeypatch.setattr(
        apply, "Quantised", lambda net, precision, *rest: made.append(str(precision)) or real(net, precision, *rest)
    )
    grid = Grid((ff.Random(),), (1.0, 0.5), (Width(), Width(8), SIM4), kv=(Width(), SIM2), common=Precision(group=16))
    asking, records = Asking(batch=2, new_tokens=2, share_tower=share), Records(None)
    found = study(model, grid, samples=8, asking=asking, records=records, yardstick=Ground())
    assert len(found.rows) == 2 * 6 and len(records) == 8 * 2 * 6
    assert made.count("weights=int8,group=16") == 2
    # Rounding is quick, and repeated where that spares runs of the tower.
    simulated = made.count("weights=sim4,group=16")
    assert simulated == 2 if not share else simulated > 2
    made.clear()
    study(model, grid, samples=8, asking=asking, records=records, yardstick=Ground())
    assert made.count("weights=int8,group=16") == 1, "answered already"


def test_passes_answer_as_one(model, found):
    """Without a shared tower every precision has a pass of its own, and its answers are the same."""
    apart = study(
        model, GRID, samples=8, asking=replace(ASKING, share_tower=False), records=Records(None), yardstick=Ground()
    )
    assert [(row.id, row.accuracy, row.kv_bytes) for row in apart.rows] == [
        (row.id, row.accuracy, row.kv_bytes) for row in found.rows
    ]


IMPOSSIBLE = {
    "no library": (Grid((FUSION,), (0.5,), (Width(8),)), 1, MissingPackageError, "torchao"),
    "no GPU": (Grid((FUSION,), (0.5,), attentions=("sage",)), 1, AttentionError, "NVIDIA"),
    "rows": (Grid((FUSION,), (0.5,), attentions=(None, "sage")), 4, AttentionError, "--batch 1"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_run_is_said_first(model, case, monkeypatch):
    grid, rows, error, words = IMPOSSIBLE[case]
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    seen = []
    with pytest.raises(error, match=words):
        study(
            model,
            grid,
            samples=8,
            calibrated=True,
            asking=Asking(batch=rows),
            records=Records(None),
            yardstick=Ground(),
            watch=lambda *step: seen.append(step),
        )
    assert not seen
