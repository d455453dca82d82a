"""Everything in turn, from two packages of weights and one of pictures to a checkpoint, its test and its card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from framefusion.core.destination import put
from framefusion.core.errors import MissingPackageError
from framefusion.core.installed import versions_of
from scripts.trained_vit import fetch as fetch_tower
from training.pretrained.export import save_model, write_test
from training.pretrained.halves import fetch_language, join, processor_of
from training.pretrained.packing import Words
from training.pretrained.questions import KINDS
from training.pretrained.scene import Grounds
from training.pretrained.stages import LEARNED, Material, Stage, run_stage
from training.pretrained.stamps import fetch, read_album

Watcher = Callable[[str, int, int], None]
VIDEOS = (".mp4", ".mkv", ".mov", ".webm")


@dataclass(frozen=True)
class Plan:
    """work: for what is unfinished. videos, stamps: folders, None for what can be had. questions: of each kind."""

    work: Path
    videos: Path | None
    stamps: Path | None
    stages: tuple[Stage, ...]
    questions: int
    seed: int


def build(folder: Path, plan: Plan, watch: Watcher, halves: tuple[Path, Path] | None = None) -> None:
    """Model, questions, card and curves in `folder`.

    halves: checkpoints of a tower and of a language model; None fetches those that the yardstick is named after.
    """
    _check(plan)
    tower, language = halves or (fetch_tower(), fetch_language())
    material = material_of(plan)
    write_test(folder / "questions", material, plan.questions)
    if not (folder / "model").exists():
        _train(folder, plan, material, tower, language, watch)
    _test(folder, plan, material, watch)


def material_of(plan: Plan) -> Material:
    """Stamps and clips, fetched where no folder is given."""
    from framefusion.cli.demo_clip.clip import EXAMPLE

    album = read_album(plan.stamps or fetch(plan.work / "stamps"), plan.work)
    videos = sorted(path for path in plan.videos.iterdir() if path.suffix in VIDEOS) if plan.videos else [EXAMPLE]
    return Material(album, Grounds.of(videos), plan.work)


def _check(plan: Plan) -> None:
    """Raises MissingPackageError before anything slow starts."""
    for name, wanted in (("accelerate", True), ("peft", any(stage.lora for stage in plan.stages))):
        if wanted and not versions_of(name):
            raise MissingPackageError(
                f"the yardstick is trained with the package {name}", hint=f"pip install 'framefusion[{name}]'"
            )


def _train(folder: Path, plan: Plan, material: Material, tower: Path, language: Path, watch: Watcher) -> None:
    before: Path | None = None
    for stage in plan.stages:
        model = join(tower, language)
        processor = processor_of(language, model.config.vision_config.patch_size)
        words = Words(processor, model.config.image_seq_length)
        learner, adapted = run_stage(stage, model, words, material, before, plan.seed, watch)
        before = plan.work / f"stage-{stage.name}" / LEARNED
    save_model(learner, adapted, processor, folder / "model")


def _test(folder: Path, plan: Plan, material: Material, watch: Watcher) -> None:
    from framefusion.inference.answer.checkpoint import load_checkpoint
    from training.pretrained.card import card, draw_curves, score

    checkpoint = load_checkpoint(str(folder / "model"), device="cpu")
    rows = score(checkpoint, folder / "questions", folder / "answers.jsonl", watch)
    held = [stamp for stamp in material.album.stamps if stamp.held_out]
    facts = {
        "stages": ", ".join(f"{one.name}: {one.steps} steps of {one.batch} x {one.most}" for one in plan.stages),
        "stamps": f"{len(material.album.stamps)}, of which {len(held)} were kept for the test",
        "words": f"{len(KINDS)} kinds, {len(material.album.groups)} groups, {len(material.album.names)} names",
        "seed": plan.seed,
    }
    drawn = draw_curves(plan.work, [stage.name for stage in plan.stages], folder / "curves.png")
    text = card(rows, facts) + ("\n![loss and right answers over the steps](curves.png)\n" if drawn else "")
    put(folder / "README.md", text.encode())
    put(folder / "scores.json", json.dumps([vars(row) for row in rows], indent=1).encode())
