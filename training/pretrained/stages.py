"""The course: pictures first, then clips; the projector learns, and adapters of the language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from framefusion.core.destination import replacing
from framefusion.evaluation.training.settings import Settings, claim
from training.pretrained.features import compute_features, moments
from training.pretrained.learner import Learner, Lessons, new_learner, right_by_kind
from training.pretrained.packing import Words
from training.pretrained.questions import questions
from training.pretrained.scene import FRAMES, Grounds, Scene, draw_scene
from training.pretrained.stamps import Album

# Scenes of training have seeds from 0 on, those for the curves and for the test from these.
ASIDE, TEST = 2**40, 2**41
LEARNED, CURVE = "learned.safetensors", "curve.json"

Watcher = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stage:
    """frames: of each scene. scenes: that are drawn. steps: of the optimiser, with `batch` scenes of at most `most`
    questions each. rate: the highest. lora: rank of the adapters. aside: scenes kept for the curve, looked at every
    `every` steps."""

    name: str
    frames: int
    scenes: int
    steps: int
    batch: int
    most: int
    rate: float = 0.001
    lora: int = 0
    aside: int = 64
    every: int = 250
    save: int = 50


# By the times of single steps some three hours in all on two cores, features and curves among them.
PICTURES = Stage("pictures", frames=1, scenes=6000, steps=1100, batch=4, most=8, lora=8, aside=96)
CLIPS = Stage("clips", frames=FRAMES, scenes=1800, steps=1800, batch=1, most=8, rate=0.0005, lora=8)


@dataclass(frozen=True)
class Material:
    """What scenes are made of, and where what is made of them is kept."""

    album: Album
    grounds: Grounds
    work: Path

    def scenes(self, count: int, frames: int, first: int, held_out: bool) -> list[Scene]:
        return [draw_scene(first + number, self.album, self.grounds, frames, held_out) for number in range(count)]


def lessons_of(stage: Stage, model: Any, words: Words, material: Material, aside: bool, watch: Watcher) -> Lessons:
    """What a stage learns from, or what is kept aside for its curve."""
    first, count, name = (ASIDE, stage.aside, f"{stage.name}-aside") if aside else (0, stage.scenes, stage.name)
    scenes = material.scenes(count, stage.frames, first, held_out=aside)
    features = compute_features(material.work / f"{name}.npy", model, scenes, material.album, material.grounds, watch)
    asked = [questions(scene, material.album) for scene in scenes]
    return Lessons(words, features, asked, stage.most, count if aside else stage.steps * stage.batch)


def run_stage(
    stage: Stage, model: Any, words: Words, material: Material, before: Path | None, seed: int, watch: Watcher
) -> tuple[Learner, Any]:
    """The learner behind a stage and the model with its adapters; goes on from the last saved state.

    before: what the stage before has learned, which this one begins with.
    """
    from framefusion.evaluation.training.trainer import fit, losses

    lessons = lessons_of(stage, model, words, material, False, watch)
    aside = lessons_of(stage, model, words, material, True, watch)
    learner, adapted = new_learner(model, moments(lessons.features), stage.lora, seed)
    if before is not None:
        learner.load_state_dict(load_file(before), strict=False)
    folder = material.work / f"stage-{stage.name}"
    if not (folder / LEARNED).exists():
        settings = Settings(
            steps=stage.steps,
            batch=stage.batch,
            rate=stage.rate,
            seed=seed,
            lora=stage.lora,
            score=0,
            save_steps=stage.save,
        )
        claim(folder, settings, asdict(stage), "--work")
        curve = Curve(folder / CURVE, stage, learner, aside, watch)
        history = fit(learner, lessons, settings, folder, curve)
        curve.finish(losses(history))
        state = {name: weight.detach().contiguous() for name, weight in learner.state_dict().items()}
        with replacing(folder / LEARNED) as out:
            out.write(save(state))
    learner.load_state_dict(load_file(folder / LEARNED))
    return learner.eval(), adapted


class Curve:
    """A watcher of the steps that looks now and then how many questions kept aside are answered right."""

    def __init__(self, file: Path, stage: Stage, learner: Learner, aside: Lessons, watch: Watcher) -> None:
        self.file, self.stage, self.learner, self.aside, self.watch = file, stage, learner, aside, watch
        self.found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"right": {}, "losses": []}

    def __call__(self, what: str, step: int, steps: int) -> None:
        self.watch(f"{self.stage.name}: {what}", step, steps)
        if step % self.stage.every == 0 or step == steps:
            state = torch.get_rng_state()
            self.learner.eval()
            self.found["right"][str(step)] = right_by_kind(self.learner, self.aside)
            self.learner.train()
            torch.set_rng_state(state)
            self._write()

    def finish(self, losses: Sequence[tuple[int, float]]) -> None:
        self.found["losses"] = [list(pair) for pair in losses]
        self._write()

    def _write(self) -> None:
        with replacing(self.file) as out:
            out.write(json.dumps(self.found, indent=1).encode())
