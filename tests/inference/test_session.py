"""A model by its name, asked about anything, from Python."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE, demo_clip
from framefusion.core.errors import OptionError, VideoNotFoundError
from framefusion.inference.answer.quiet import CHATTY, without_chatter

ASKED = "which colour flashed?"


@pytest.fixture(scope="module")
def session() -> ff.Session:
    return ff.load("framefusion/tiny", device="cpu")


def test_a_question_about_a_file(session: ff.Session) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = session.ask(EXAMPLE, ASKED)
    assert answer.text == "green" and answer.report.method.startswith("TemporalWard(keep=0.3")
    assert answer.kept_tokens == 154 == answer.report.kept_tokens


def test_methods_by_object_name_and_reference(session: ff.Session) -> None:
    by_name = session.ask(str(EXAMPLE), ASKED, method="fastv", keep=0.5, layer=3)
    by_object = session.ask(EXAMPLE, ASKED, method=ff.FastV(keep=0.5, layer=3))
    by_reference = session.ask(EXAMPLE, ASKED, method="framefusion.methods.fastv:FastV", keep=0.5, layer=3)
    found = [(one.text, one.report.method, one.kept_tokens, one.cost) for one in (by_name, by_object, by_reference)]
    assert found[0] == found[1] == found[2] and "layer=3" in found[0][1]
    assert session.ask(EXAMPLE, ASKED, method=None).report is None
    assert session.ask(EXAMPLE, ASKED, method="framefusion", cost=0.5).cost == pytest.approx(0.5, abs=0.03)


@pytest.mark.filterwarnings("ignore:the embedded model knows")
def test_every_kind_of_media(session: ff.Session, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    given: list[Any] = [tmp_path / "x.png", str(tmp_path / "x.png"), Image.fromarray(pixels), pixels]
    counts = [session.ask(one, ASKED, max_new_tokens=2) for one in given]
    assert len({(answer.text, answer.visual_tokens, answer.kept_tokens) for answer in counts}) == 1
    together = session.ask([*given, demo_clip()], ASKED, max_new_tokens=2)
    assert together.visual_tokens == 4 * counts[0].visual_tokens + 512
    turned = Image.new("RGBA", (64, 32))
    assert session.ask(turned, ASKED, max_new_tokens=1).visual_tokens > 0


def test_pieces_come_while_it_is_written(session: ff.Session) -> None:
    pieces: list[str] = []
    answer = session.ask(EXAMPLE, "where is the yellow thing at the end?", stream=pieces.append)
    assert "".join(pieces).strip() == answer.text == "top right" and len(pieces) > 1


def test_the_embedded_model_warns_about_what_it_does_not_know(session: ff.Session) -> None:
    with pytest.warns(UserWarning, match="kinds of questions") as seen:
        session.ask(EXAMPLE, "Bonjour?", max_new_tokens=1)
    assert seen[0].filename == __file__


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a number": (3, {}, "media of int"),
    "nothing": ([], {}, "nothing to ask about"),
    "floats": (np.zeros((4, 4, 3)), {}, "float64"),
    "a clip without times": (np.zeros((2, 4, 4, 3), np.uint8), {}, r"\(2, 4, 4, 3\)"),
    "options without a method": (EXAMPLE, {"method": None, "keep": 0.3}, "option of a method"),
    "options beside a method": (EXAMPLE, {"method": ff.FastV(), "keep": 0.3}, "option of a method"),
    "no such option": (EXAMPLE, {"depth": 3}, "no option `depth`"),
    "no method": (EXAMPLE, {"method": 3}, "method or its name"),
    "no length": (EXAMPLE, {"max_new_tokens": 0}, "max_new_tokens"),
    "no frames": (EXAMPLE, {"frames": 0}, "frames"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(case: str, session: ff.Session) -> None:
    media, options, said = WRONG[case]
    with pytest.raises(OptionError, match=said):
        session.ask(media, ASKED, **options)


def test_no_file_and_no_text(session: ff.Session) -> None:
    with pytest.raises(VideoNotFoundError):
        session.ask("nowhere.mp4", ASKED)
    with pytest.raises(OptionError, match="a question is text"):
        session.ask(EXAMPLE, 3)  # type: ignore[arg-type]


def test_levels_are_as_before_also_when_blocks_overlap() -> None:
    logger = logging.getLogger(CHATTY[0])
    before = logger.level
    first, second = without_chatter(), without_chatter()
    first.__enter__()
    second.__enter__()
    assert logger.level == logging.ERROR
    first.__exit__(None, None, None)
    assert logger.level == logging.ERROR
    second.__exit__(None, None, None)
    assert logger.level == before


@pytest.mark.slow
def test_other_libraries_say_nothing() -> None:
    """In a fresh process, where torchao and pytree speak while transformers loads them."""
    code = f"import framefusion as ff; print(ff.load('framefusion/tiny').ask({str(EXAMPLE)!r}, {ASKED!r}).text)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "green\n"
    said = [line for line in done.stderr.splitlines() if "Loading weights" not in line]
    assert said == []
