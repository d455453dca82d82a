"""`python -m training`: every stage in turn. Run it again after a stop; it goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.export import export
from training.features import compute_features
from training.language import Stage, train_language
from training.tower import train_tower

CLIPS = 12_288
TOWER_STEPS, SCENES = 2400, 16
STAGES = [
    Stage("shallow", layers=6, steps=1800, whole=0.6),
    Stage("deep", layers=12, steps=1500, rate=0.7, whole=0.4),
]


def main(
    work: Annotated[Path, typer.Option(help="Where unfinished stages and features are kept, about 2 GB.")] = Path(
        "build/training"
    ),
    out: Annotated[Path, typer.Option(help="Where the finished checkpoint goes.")] = Path(
        "framefusion/tiny/checkpoint"
    ),
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Cores to use.")] = 2,
) -> None:
    """Train the embedded model from nothing: tower, features, language model, checkpoint."""
    import torch

    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    train_tower(work, TOWER_STEPS, SCENES, seed)
    compute_features(work, CLIPS, threads)
    train_language(work, STAGES, CLIPS, seed)
    export(work, out, STAGES[-1].layers)


if __name__ == "__main__":
    typer.run(main)
