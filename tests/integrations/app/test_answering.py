"""Both answers, word by word, and what is shown of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from framefusion.core.errors import FrameFusionError, LayoutError
from framefusion.core.registry import method
from framefusion.inference.answer.answer import Answer, ask
from framefusion.inference.answer.prompt import build_prompt
from framefusion.integrations.app import answering, cards
from framefusion.integrations.app.answering import answers, streamed
from tests.support.seeing import checkpoint, clip

FAMILY, TOKENS = "qwen2_5_vl", 6
EVIL = '<img src=x onerror="alert(1)"></iframe><script>\u202e'


def prompt() -> dict[str, Any]:
    return build_prompt(checkpoint(FAMILY), clip(), "What moves?")


def test_words_come_one_after_the_other_and_make_the_answer():
    *words, last = streamed(checkpoint(FAMILY), prompt(), None, TOKENS)
    assert isinstance(last, Answer) and last.text == "".join(words).strip()
    assert last.text == ask(checkpoint(FAMILY), prompt(), None, TOKENS).text and last.new_tokens == TOKENS


def test_both_answers_are_those_of_the_model_alone():
    reduction = method("framefusion")(cost=0.3)
    found = list(answers(checkpoint(FAMILY), clip(), "What moves?", reduction, TOKENS))
    last = found[-1]
    assert last.doing == "" and all(each.doing for each in found[:-1])
    assert last.words["dense"] == ask(checkpoint(FAMILY), prompt(), None, TOKENS).text
    assert last.words["reduced"] == ask(checkpoint(FAMILY), prompt(), reduction, TOKENS).text
    assert last.scene is not None and last.scene.reduced is last.reduced and last.before["processor"] > 0
    # The reduced one begins when the dense one is complete.
    assert not any("reduced" in each.words and each.dense is None for each in found)


def test_whoever_stops_listening_stops_the_model(monkeypatch):
    made: list[Any] = []
    own = answering._streamer

    def watched(*given: Any) -> Any:
        made.append(own(*given))
        return made[-1]

    monkeypatch.setattr(answering, "_streamer", watched)
    calls: list[None] = []
    model = checkpoint(FAMILY).model
    handle = model.register_forward_hook(lambda *_: calls.append(None))
    listening = streamed(checkpoint(FAMILY), prompt(), method("framefusion")(cost=0.3), 4000)
    next(listening)
    listening.close()
    handle.remove()
    assert len(calls) < 4000 and not made[0].heard
    assert ask(checkpoint(FAMILY), prompt(), None, TOKENS).kept_fraction == 1.0


def test_an_error_of_the_model_reaches_who_listens(monkeypatch):
    monkeypatch.setattr(answering, "ask", lambda *_: (_ for _ in ()).throw(ValueError("broken")))
    with pytest.raises(ValueError, match="broken"):
        list(streamed(checkpoint(FAMILY), prompt(), None, TOKENS))


def test_answers_without_a_map_say_why(monkeypatch):
    def undrawn(*_: Any) -> Any:
        raise LayoutError("nothing to see", EVIL)

    monkeypatch.setattr(answering, "scene_of", undrawn)
    last = list(answers(checkpoint(FAMILY), clip(), "What moves?", method("uniform")(keep=0.5), 2))[-1]
    assert last.scene is None and "nothing to see" in cards.token_map(last) and "<script" not in cards.token_map(last)


def test_texts_from_outside_are_never_elements():
    last = list(answers(checkpoint(FAMILY), clip(), "What moves?", method("uniform")(keep=0.5), 2))[-1]
    assert last.scene is not None
    scene = replace(last.scene, source=EVIL, question=EVIL, notes=(EVIL,))
    last = replace(last, words={"dense": EVIL, "reduced": EVIL}, scene=scene, notes=(EVIL,))
    named = replace(clip(), source=EVIL)
    parts = [cards.both(last), cards.took(last, 5.0), cards.token_map(last), cards.strip(named)]
    parts += [cards.problem(FrameFusionError(EVIL, EVIL, EVIL)), cards.doing(EVIL), cards.method_line(EVIL, EVIL)]
    for part in parts:
        assert "<script" not in part and 'onerror="' not in part and "\u202e" not in part
    assert cards.token_map(last).count("<iframe") == cards.token_map(last).count("</iframe>") == 1


def test_times_add_up():
    answer = ask(checkpoint(FAMILY), prompt(), None, TOKENS)
    answer = replace(answer, prefill_ms=100.0, tower_ms=30.0, projector_ms=None, decode_ms=10.0)
    spent = cards.parts(answer, {"reading": 7.0, "processor": 3.0})
    assert spent == {"reading the clip": 7, "processor": 3, "vision tower": 30, "prompt, rest": 70, "answer": 50}
