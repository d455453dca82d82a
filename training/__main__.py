"""`python -m training`: every stage in turn. Run it again after a stop; it goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from framefusion.tiny import CHECKPOINT
from framefusion.yardstick import FRAMES
from training.architecture import GRID
from training.card import make_card, read_seconds
from training.export import export
from training.features import compute_features
from training.language import Stage, train_language
from training.tower import train_tower

CLIPS = 12_288
TOWER_STEPS, SCENES = 2400, 16
# The first stage is fast and rough. What it hands on is refined at a quarter of its rate, and made robust to lost
# tokens when it is as deep as it will be.
STAGES = [
    Stage("shallow", layers=6, steps=1800, whole=0.6, after_clip=(GRID, FRAMES)),
    Stage("fine", layers=6, steps=600, rate=0.25, whole=0.7, cool=0.0),
    Stage("long", layers=6, steps=1800, rate=0.35, whole=0.8, cool=0.35),
    Stage("events", layers=6, steps=450, rate=0.35, whole=0.8, cool=0.3),
    Stage("changes", layers=6, steps=1500, rate=0.35, moments=0.7, whole=0.8, cool=0.3),
    Stage("deep", layers=12, steps=760, rate=0.3, moments=0.3, whole=0.4, inside=0.4),
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
