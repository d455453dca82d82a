"""Answers in batches are those one by one, and a stopped run goes on where it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

import framefusion as ff
from framefusion.evaluation import Asking, Records, runner
from framefusion.evaluation.context import cell_of
from framefusion.evaluation.runner import Arm, answer_all
from framefusion.inference.answer import batch
from framefusion.inference.answer.answer import ask, generate
from tests.evaluation.ground import Ground, checkpoint

METHODS = {
    "dense": None,
    "framefusion": ff.FrameFusion(cost=0.4, similarity_lower_bound=0.9, ratio_lower_bound=0.15),
    "random": ff.Random(keep=0.4),
}


def arm(model, method, asking):
    return Arm(cell_of(model, method, asking, "weights"), method)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision", "gemma3"])
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_answers_as_its_rows_do(family, name):
    model, asking = checkpoint(family), Asking(batch=3, new_tokens=5)
    questions = [q for q in Ground().samples(9) if q.question == "which?"][:3]
    prompts = [asking.prompt(model, question) for question in questions]
    together = batch.ask_rows(model, prompts, METHODS[name], 5)
    costs = set()
    for row, prompt in zip(together, prompts, strict=True):
        alone = ask(model, prompt, METHODS[name], 5)
        (one,) = batch.ask_rows(model, [prompt], METHODS[name], 5)
        assert row.text == one.text == alone.text
        assert (row.kept_tokens, row.visual_tokens) == (alone.kept_tokens, alone.visual_tokens)
        assert row.cost == pytest.approx(alone.cost)
        assert row.confidence == pytest.approx(one.confidence, rel=1e-3)
        assert 0 < row.confidence <= 1 and row.new_tokens == 5
        costs.add(round(row.cost, 6))
    assert (costs == {1.0}) == (name == "dense")


def test_an_answer_ends_at_its_last_word(monkeypatch):
    """Rows that end early are padded by `generate`; padding is no part of the answer nor of its confidence."""
    model, asking = checkpoint(), Asking(new_tokens=6)
    prompts = [asking.prompt(model, question) for question in Ground().samples(4) if question.question == "which?"]
    free = batch.ask_rows(model, prompts, None, 6)
    said = generate(model, prompts[0], None, 6).output.sequences[0, -6:].tolist()
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", said[1])
    ended = batch.ask_rows(model, prompts, None, 6)
    assert ended[0].new_tokens == said.index(said[1]) + 1 < 6
    assert ended[0].confidence > free[0].confidence
    assert any(row.new_tokens == 6 for row in ended), "every row ended early: nothing was padded"


@pytest.mark.parametrize("size", [1, 2, 8])
def test_every_question_is_answered_once_by_every_arm(size, monkeypatch):
    model, asking, records = checkpoint(), Asking(batch=size, new_tokens=2), Records(None)
    arms = [arm(model, method, asking) for method in METHODS.values()]
    asked, seen = [], []
    real = runner.ask_rows
    monkeypatch.setattr(
        runner, "ask_rows", lambda c, prompts, *rest: asked.append(len(prompts)) or real(c, prompts, *rest)
    )
    answer_all(model, arms, Ground().samples(10), records, asking, seen.append)
    assert len(records) == sum(asked) == sum(seen) == 30
    assert max(asked) <= size and (size == 1 or max(asked) > 1)
    answer_all(model, arms, Ground().samples(10), records, asking)
    assert sum(asked) == 30


class Killed(BaseException):
    """Stands for a signal."""


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    model, asking, file = checkpoint(), Asking(batch=2, new_tokens=2), tmp_path / "a.jsonl"
    arms = [arm(model, method, asking) for method in METHODS.values()]
    whole = Records(None)
    answer_all(model, arms, Ground().samples(7), whole, asking)
    real, rows = runner.ask_rows, []

    def stops(checkpoint, prompts, *rest):
        if len(rows) == 4:
            raise Killed
        rows.append(len(prompts))
        return real(checkpoint, prompts, *rest)

    monkeypatch.setattr(runner, "ask_rows", stops)
    with pytest.raises(Killed):
        answer_all(model, arms, Ground().samples(7), Records(file), asking)
    before, kept = sum(rows), file.read_bytes()
    assert len(Records(file)) == before > 0
    rows.clear()
    rows += [0, 0, 0, 0, 0]
    answer_all(model, arms, Ground().samples(7), Records(file), asking)
    assert sum(rows) == 21 - before and file.read_bytes().startswith(kept)
    again = Records(file)
    for one in arms:
        for question in Ground().samples(7):
            name = question.seed, question.kind
            first, second = whole.get(one.cell, name), again.get(one.cell, name)
            same = {"cell": one.cell, "prefill_ms": 0, "ms": 0, "rows": 0, "kv_bytes": 0, "confidence": 0}
            assert replace(first, **same) == replace(second, **same)
