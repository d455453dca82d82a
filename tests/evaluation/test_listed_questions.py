"""Questions of a list: what is asked, in which order, and which lines are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framefusion.cli.app import run_app
from framefusion.core.errors import OptionError
from framefusion.evaluation.comparison import PROBE_SEED
from framefusion.evaluation.listed_questions import ListedQuestions
from tests.support.tiny import save_checkpoint


def line(**parts: object) -> str:
    return json.dumps({"video": "clip", "question": "what is it?", "answer": "cat", "kind": "thing", **parts})


def write(folder: Path, lines: list[str], frames: int = 3) -> Path:
    (folder / "clip").mkdir(exist_ok=True)
    for number in range(frames):
        Image.fromarray(np.full((56, 56, 3), 40 * number, np.uint8)).save(folder / "clip" / f"{number}.png")
    (folder / "questions.jsonl").write_text("\n".join([*lines, ""]))
    return folder


LINES = [line(answer=answer) for answer in ("cat", "dog", "cow", "cat", "dog")]
LINES += [line(kind="side", answer=answer, choices=["left", "right"]) for answer in ("left", "right", "left", "left")]


def test_kinds_are_asked_in_turn_and_the_first_lines_of_each_are_kept_for_costs(tmp_path):
    ground = ListedQuestions(write(tmp_path, LINES), frames=2)
    assert ground.KINDS == ("thing", "side")
    assert (ground.chance("thing"), ground.chance("side")) == (pytest.approx(1 / 3), 0.5)
    asked = list(ground.samples(4, seed=7))
    assert [one.kind for one in asked] == ["thing", "side"] * 2 and len({one.seed for one in asked}) == 4
    assert [one.seed for one in ground.samples(4, seed=7)] == [one.seed for one in asked]
    assert [one.seed for one in ground.samples(4, PROBE_SEED)] == [1, 6, 2, 7]
    assert [one.seed for one in ground.samples(4, PROBE_SEED, ("side",))] == [6, 7, 6, 7]
    assert {one.seed for one in asked} <= {3, 4, 5, 8, 9}
    assert asked[0].choices == ("cat", "dog", "cow") and asked[1].choices == ("left", "right")
    assert asked[0].clip().frames.shape == (2, 56, 56, 3)
    orders = {tuple(one.seed for one in ground.samples(3, seed, ("thing",))) for seed in range(20)}
    assert len(orders) == 6


def test_more_than_there_is_cannot_be_asked(tmp_path):
    ground = ListedQuestions(write(tmp_path, LINES), frames=2)
    assert len(list(ground.samples(5))) == 5
    with pytest.raises(OptionError, match="at most 5"):
        ground.samples(6)


def test_answers_to_other_questions_are_kept_apart(tmp_path):
    first = ListedQuestions(write(tmp_path, LINES), frames=2).setup
    assert ListedQuestions(tmp_path / "questions.jsonl", frames=2).setup == first
    assert ListedQuestions(tmp_path, frames=3).setup != first
    assert ListedQuestions(write(tmp_path, [*LINES, LINES[0]]), frames=2).setup != first


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("[]", "no object"),
        ("{", "line 10"),
        (line(answer=""), "empty"),
        (line(answer=3), "no text"),
        (line(video="none.mp4"), "no video none.mp4"),
        (line(video="clip\0"), "line 10"),
        (line(choices=["dog", "cow"]), "not among the choices"),
        (line(choices=3), "line 10"),
        (line(choices="cat"), "choices are no texts"),
        (line(kind="one", choices=["cat", "cat"]), "one possible answer"),
        (line(kind="only", choices=["cat", "dog"]), "1 questions of kind `only`"),
        ('{"video": "clip", "question": "what?"}', "has no 'answer'"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, bad, why):
    with pytest.raises(OptionError, match=why):
        ListedQuestions(write(tmp_path, [*LINES, bad]), frames=2)


@pytest.mark.parametrize("lines", [[], [""]])
def test_an_empty_list_holds_no_question(tmp_path, lines):
    with pytest.raises(OptionError, match="holds no question"):
        ListedQuestions(write(tmp_path, lines), frames=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint("qwen2_5_vl", folder)
    return str(folder)


def test_the_command_asks_them(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path, LINES, frames=4)
    command = ["evaluate", "--model", model, "--data", str(tmp_path), "--frames", "4", "--samples", "4", "--json"]
    command += ["--compare", "none", "--max-new-tokens", "2", "--cost", "0.5"]
    assert run_app(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["dense"]["by_kind"]) == {"thing", "side"} and shown["setup"]["frames"] == 4
    assert shown["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2) and shown["setup"]["choices_named"] is True
    assert run_app([*command, "--no-choices"]) == 0
    assert json.loads(capsys.readouterr().out)["setup"]["choices_named"] is False


@pytest.mark.parametrize(
    ("more", "what"),
    [(["--samples", "240"], "at most"), (["--kinds", "colour"], "unknown kind"), (["--frames", "0"], "frames must be")],
)
def test_the_command_says_what_cannot_be_asked(tmp_path, capsys, more, what):
    write(tmp_path, LINES)
    command = ["evaluate", "--model", "no such model", "--data", str(tmp_path), "--samples", "4", *more]
    assert run_app(command) == 2
    assert what in capsys.readouterr().err
