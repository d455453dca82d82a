"""The trained model as an ordinary checkpoint, and the test as a list of questions that `framefusion evaluate` asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.pretrained.learner import Learner
from training.pretrained.questions import KINDS, PLOTS_OF, Question, choices, questions
from training.pretrained.scene import FRAMES, Scene, draw_scene, render
from training.pretrained.stages import TEST, Material

# Scenes that are looked through for a question of a kind; there are fewer without one.
APART = 64


def save_model(learner: Learner, adapted: Any, processor: Any, folder: Path) -> None:
    """Adapters become part of the weights, shifts and scales part of the projector; then all is saved."""
    model = adapted.merge_and_unload() if hasattr(adapted, "merge_and_unload") else adapted
    learner.projector.fold_into(model.model.multi_modal_projector)
    _whole(folder, lambda fresh: (model.save_pretrained(fresh), processor.save_pretrained(fresh)))


def write_test(folder: Path, material: Material, count: int) -> None:
    """`questions.jsonl` and the frames it names: `count` questions of every kind, and one more to match costs on.

    Names are those of stamps that training knows; all others are about stamps and frames of clips that it does not.
    """
    _whole(folder, lambda fresh: _write(fresh, material, count + 1))


def _write(folder: Path, material: Material, count: int) -> None:
    lines = []
    for place, kind in enumerate(KINDS):
        allowed = list(choices(kind, material.album))
        for number in range(count):
            scene, question = _found(kind, TEST + (place * count + number) * APART, material)
            name = f"{kind}-{number:04}"
            (folder / name).mkdir(parents=True)
            for at, frame in enumerate(render(scene, material.album, material.grounds)):
                Image.fromarray(frame).save(folder / name / f"{at}.png")
            row = {"video": name, "question": question.text, "answer": question.answer}
            lines.append(json.dumps({**row, "kind": kind, "choices": allowed}))
    (folder / "questions.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _found(kind: str, first: int, material: Material) -> tuple[Scene, Question]:
    """The first scene from seed `first` on with a question of a kind, and that question."""
    for seed in range(first, first + APART):
        draw = np.random.default_rng([seed, 1])
        plot, named = str(draw.choice(PLOTS_OF[kind])), kind == "name"
        scene = draw_scene(seed, material.album, material.grounds, FRAMES, not named, plot, named)
        asked = [question for question in questions(scene, material.album) if question.kind == kind]
        if asked:
            return scene, asked[int(draw.integers(len(asked)))]
    raise RuntimeError(f"no scene has a question of kind {kind}; the stamps are too few")


def _whole(folder: Path, write: Callable[[Path], Any]) -> None:
    """Written beside and renamed, so that a folder that is there is whole."""
    if folder.exists():
        return
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    fresh.replace(folder)
