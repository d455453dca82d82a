"""`python -m training`: every stage in turn. Run it again after a stop; it goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from framefusion.evaluation.synthetic_questions import FRAMES
from framefusion.inference.tiny import CHECKPOINT
from training.architecture import GRID
from training.card import make_card, read_seconds
from training.export import export
from training.features import compute_features
from training.language import Stage, train_language
from training.states import LOWER
from training.tower import train_tower

CLIPS = 12_288
TOWER_STEPS, SCENES = 2400, 16
# What tokens show, then what words stand for, then answers from a model as deep as it will be, robust to lost tokens.
BEHIND = (GRID, FRAMES)
STAGES = [
    Stage(
        "states",
        layers=LOWER,
        steps=1500,
        lower=0.5,
        moments=0.4,
        whole=0.8,
        questions=1,
        states=1.0,
        facts=0.0,
    ),
    Stage("words", layers=8, steps=1000, lower=0.2, moments=0.2, whole=0.8, evenly=True, cool=0.0, after_clip=BEHIND),
    Stage("deep", layers=12, steps=700, rate=0.5, lower=0.2, moments=0.35, whole=0.4, inside=0.4, after_clip=BEHIND),
]


def main(
    work: Annotated[Path, typer.Option(help="Where unfinished stages and features are kept, about 2 GB.")] = Path(
        "build/training"
    ),
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Cores to use.")] = 2,
) -> None:
    """Train the embedded model from nothing: tower, features, language model, checkpoint, model card."""
    import torch

    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    train_tower(work, TOWER_STEPS, SCENES, seed)
    compute_features(work, CLIPS, threads)
    train_language(work, STAGES, CLIPS, seed)
    export(work, CHECKPOINT, STAGES[-1].layers)
    steps = {"tower": TOWER_STEPS} | {stage.name: stage.steps for stage in STAGES}
    data = {"clips": CLIPS, "frame_scenes": TOWER_STEPS * SCENES}
    make_card(steps, read_seconds(work), data)


if __name__ == "__main__":
    typer.run(main)
