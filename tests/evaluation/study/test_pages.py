"""Frontier, advice, figures and page are functions of the rows, here of rows made up for the purpose."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec

import pytest

from framefusion.core.errors import OptionError, RecordsError
from framefusion.evaluation.paired import Interval, Paired
from framefusion.evaluation.study.confidence import calibration_error, overconfidence
from framefusion.evaluation.study.frontier import frontier, planes
from framefusion.evaluation.study.page import BEGIN, END, check_page, tables, write_page
from framefusion.evaluation.study.recommend import refused, steps
from framefusion.evaluation.study.rows import Row, read_rows, shares, short
from framefusion.evaluation.study.run import Study
from framefusion.evaluation.study.tasks import TASKS, task_of, tasks_of
from framefusion.evaluation.synthetic_questions import KINDS

needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
BITS = {"16": 16, "sim4": 4, "sim2": 2}


def row(method="dense", budget=1.0, weights="16", kv="16", accuracy=0.9, low=0.0, second=None):
    """A thousand bytes of weights and of cache, times tokens and bits."""
    words = short(weights, "16", kv)
    return Row(
        id=f"{method} {budget:g} {words}",
        cell="0" * 16,
        method=method,
        options={},
        budget=budget,
        weights=weights,
        activations="16",
        kv=kv,
        attention=None,
        questions=100,
        accuracy=Interval(accuracy, accuracy - 0.1, accuracy + 0.1),
        tasks={"perception": Interval(accuracy, 0, 1)},
        kinds={"colour": accuracy},
        halves=(accuracy, accuracy if second is None else second),
        against=Paired(Interval(accuracy - 0.9, low, 0.1), Interval(1, 0, 1), 1, 2, 0.5),
        cost=budget,
        kept=budget,
        confidence=0.8,
        calibration_error=0.1,
        overconfidence=0.0,
        prompt_tokens=500,
        weight_bytes=1000 * BITS[weights] / 16,
        kv_bytes=1000 * budget * BITS[kv] / 16,
        prefill_ms=None,
        ms=None,
        origin={},
    )


ROWS = (
    row(),
    row(kv="sim4", accuracy=0.88, low=-0.04),
    row(kv="sim2", accuracy=0.4, low=-0.6),
    row("random", 0.5, accuracy=0.87, low=-0.05, second=0.8),
    row("random", 0.5, kv="sim4", accuracy=0.86, low=-0.04),
    row("random", 0.25, accuracy=0.5, low=-0.5),
    row(weights="sim4", accuracy=0.89, low=-0.03),
    row("random", 0.5, weights="sim4", kv="sim4", accuracy=0.85, low=-0.2),
    row(weights="sim4", kv="sim4", accuracy=0.88, low=-0.05),
)
WIDE = ("16", "16", None)
STUDY = Study("a model", 100, 0, 0.25, ROWS, ("a note",), None)


def test_the_frontier_takes_the_best_that_fits():
    found = {one.share: one for one in frontier(ROWS, WIDE, (1.0, 0.5, 0.25, 0.125, 0.01))}
    assert found[1.0].chosen is ROWS[0]
    # Half the bytes: dense in 4 bits is better than half the tokens in 16.
    assert found[0.5].chosen is ROWS[1] and found[0.25].chosen is ROWS[1]
    assert found[0.125].chosen is ROWS[4] and 0.01 not in found
    assert found[0.5].limit == 500
    assert planes(ROWS) == [WIDE, ("sim4", "16", None)]


def test_the_frontier_judges_on_questions_that_did_not_choose():
    only = frontier((ROWS[0], ROWS[3]), WIDE, (0.5,))
    assert only[0].chosen is ROWS[3] and only[0].unseen == 0.8


def test_attention_in_8_bits_is_a_plane_of_its_own():
    sage = replace(ROWS[0], attention="sage-emulated", accuracy=Interval(1.0, 0.9, 1.0), halves=(1.0, 1.0))
    both = (*ROWS, sage)
    assert planes(both)[-1] == ("16", "16", "sage-emulated")
    assert frontier(both, WIDE, (1.0,))[0].chosen is ROWS[0]
    assert frontier(both, planes(both)[-1], (1.0,))[0].chosen is sage


def test_both_halves_ask_every_kind():
    scores = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert shares(scores, ["colour", "change"] * 3) == (0.25, 0.5)
    alone, nothing = shares([1.0], ["colour"])
    assert alone == 1.0 and math.isnan(nothing)


def test_advice_takes_the_largest_saving_that_holds():
    found = steps(ROWS)
    # 4-bit weights save as much as 4-bit keys and values, and are right more often.
    assert [(step.part, step.after) for step in found] == [("weights", ROWS[6]), ("kv", ROWS[8])]
    assert found[0].saved == found[1].saved == 750
    stopped = refused(ROWS, found)
    assert [(step.part, step.after) for step in stopped] == [("tokens", ROWS[7])]
    # With many prompts beside the weights the cache counts for more than the weights do.
    assert [step.part for step in steps(ROWS, prompts=10)] == ["kv", "tokens"]
    assert steps(ROWS, margin=0.0) == []


def test_calibration():
    assert calibration_error([1.0, 1.0, 0.05], [True, True, False]) == pytest.approx(0.05 / 3)
    assert calibration_error([0.95, 0.95], [True, False]) == pytest.approx(0.45)
    # Too sure in one bin and not sure enough in another do not cancel out.
    assert calibration_error([0.9, 0.1], [False, True]) == pytest.approx(0.9)
    assert overconfidence([0.9, 0.1], [False, True]) == pytest.approx(0)
    assert math.isnan(calibration_error([], []))


def test_every_kind_has_a_task():
    assert sorted(kind for kinds in TASKS.values() for kind in kinds) == sorted(KINDS)
    assert task_of("needle") == "retrieval" and task_of("taste") == "other"
    assert tasks_of(["taste", "needle", "colour"]) == ("perception", "retrieval", "other")


def test_tables_cite_rows_and_mark_what_is_simulated():
    text = tables(STUDY, "framefusion study")
    for one in ROWS:
        assert f"`{one.id}`" in text
    assert "`dense 1 W4* A16 KV16`" in text and "a note" in text and "chance 25.0%" in text
    assert "prefill" not in text
    timed = replace(STUDY, rows=(replace(ROWS[0], prefill_ms=12.0, ms=20.0), *ROWS[1:]))
    assert "12 ms" in tables(timed, "framefusion study")


def test_a_page_keeps_its_words(tmp_path):
    page = tmp_path / "study.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_page(STUDY, "framefusion study --page study.md", page, [tmp_path / "study-random.png"])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{END}\nafter\n") and "old" not in text
    assert "(study-random.png)" in text
    write_page(STUDY, "framefusion study --page study.md", page, [tmp_path / "study-random.png"])
    assert page.read_text() == text


@pytest.mark.parametrize("text", ["", BEGIN, END])
def test_a_page_without_a_place(tmp_path, text):
    page = tmp_path / "study.md"
    page.write_text(text)
    with pytest.raises(OptionError):
        check_page(page)


def test_a_line_that_is_no_row():
    with pytest.raises(RecordsError):
        read_rows('{"id": "dense"}\n')


@needs_matplotlib
def test_figures(tmp_path):
    from PIL import Image

    from framefusion.evaluation.study.plot import draw_frontier, draw_heat_map

    draw_heat_map(ROWS, "random", 0.25, tmp_path / "heat.png")
    draw_frontier(ROWS, "a model", tmp_path / "frontier.png")
    for name in ("heat", "frontier"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors(256)) > 20
