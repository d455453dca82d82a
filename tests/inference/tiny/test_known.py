"""The embedded model's remarks: silent about what it was trained on, and about nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from framefusion.evaluation.synthetic_questions.questions import KINDS, questions
from framefusion.evaluation.synthetic_questions.scene import COLOURS, FPS, FRAMES, SHAPES, draw_scene
from framefusion.inference.tiny import NAME, known
from framefusion.inference.video import Clip

CLIP = Clip(np.zeros((FRAMES, 112, 112, 3), np.uint8), tuple(np.arange(FRAMES) / FPS), FPS, 4.0, FRAMES, "clip.mp4")


def test_words_are_those_of_the_yardstick() -> None:
    assert known.COLOURS.split("|") == list(COLOURS) and known.SHAPES.split("|") == list(SHAPES)
    assert known.FRAMES == FRAMES and len(known.KNOWN) == len(KINDS)


def test_every_question_of_the_yardstick_is_known() -> None:
    asked = [question for seed in range(60) for question in questions(draw_scene(seed))]
    assert {question.kind for question in asked} == set(KINDS)
    assert all(known.remarks(NAME, [CLIP], question.text) == [] for question in asked)


@pytest.mark.parametrize(
    "question", ["What changed?", "  what  CHANGED ", "Which color flashed?", "how many objects are there?"]
)
def test_as_its_tokenizer_reads_them(question: str) -> None:
    assert known.asks_known(question)


@pytest.mark.parametrize(
    "question", ["What is happening?", "Bonjour?", "", "what changed in the kitchen?", "what colour is the car?"]
)
def test_other_questions_get_a_remark_that_names_some_it_knows(question: str) -> None:
    (remark,) = known.remarks(NAME, [CLIP], question)
    assert "what changed?" in remark and "another model" in remark


def test_other_models_get_none() -> None:
    assert known.remarks("Qwen/Qwen2.5-VL-3B-Instruct", [CLIP, CLIP], "Bonjour?") == []


@pytest.mark.parametrize(
    "media",
    [
        [replace(CLIP, frames=CLIP.frames[:1], still=True)],
        [CLIP, CLIP],
        [replace(CLIP, frames=np.zeros((FRAMES, 64, 112, 3), np.uint8))],
        [replace(CLIP, frames=CLIP.frames[:8])],
    ],
)
def test_other_media_get_a_remark(media: list[Clip]) -> None:
    (remark,) = known.remarks(NAME, media, "what changed?")
    assert "square clips" in remark
