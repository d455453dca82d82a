"""The study in `docs/`: made with the model that is shipped, and a page that says nothing its rows do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import transformers

from framefusion.evaluation import fingerprint
from framefusion.evaluation.study.page import BEGIN, END
from framefusion.evaluation.study.rows import Row, read_rows
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.tiny import CHECKPOINT

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module", params=["study", "study-kernels", "study-attention"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def rows(name) -> list[Row]:
    return read_rows((DOCS / f"{name}.jsonl").read_text(encoding="utf-8"))


def test_the_rows_are_of_the_shipped_model(rows):
    made_with = rows[0].origin["transformers"]
    if made_with != transformers.__version__:
        pytest.skip(f"the rows were made with transformers {made_with}, whose configurations may differ")
    assert {row.origin["weights"] for row in rows} == {
        fingerprint.of_checkpoint(load_checkpoint(CHECKPOINT, device="cpu"))
    }


def test_every_row_is_there_once_and_answers_the_same_questions(rows):
    assert len({row.id for row in rows}) == len(rows)
    assert {(row.questions, row.origin["first_question"]) for row in rows} == {
        (rows[0].questions, rows[0].origin["first_question"])
    }


def test_what_the_page_cites_is_a_row_and_says_what_it_says(name, rows):
    by_id = {row.id: row for row in rows}
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    written = text.partition(BEGIN)[2].partition(END)[0]
    cited = re.findall(r"`([a-z]+ [\d.]+ W\S+ A\S+ KV[^`]+)`", text)
    assert len(cited) >= len(rows) and set(cited) <= set(by_id)
    for id, accuracy in re.findall(r"`([^`]+)` \| ([\d.]+)% \[", written):
        assert f"{by_id[id].accuracy.value:.1%}" == f"{accuracy}%"
