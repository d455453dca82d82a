"""`python -m training.pretrained FOLDER`: everything in turn. Run it again after a stop; it goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from training.pretrained.build import Plan, build
from training.pretrained.progress import watcher
from training.pretrained.stages import CLIPS, PICTURES


def main(
    folder: Annotated[Path, typer.Argument(help="Where model, questions and card go.")],
    videos: Annotated[
        Path | None,
        typer.Option("--videos", help="Folder of clips to show things over; by default the example clip alone."),
    ] = None,
    stamps: Annotated[
        Path | None,
        typer.Option("--stamps", help="Folder `stamps` of the package tuxpaint-stamps-default; fetched by default."),
    ] = None,
    work: Annotated[
        Path, typer.Option("--work", help="Where unfinished stages and features are kept, about 2 GB.")
    ] = Path("build/pretrained-yardstick"),
    picture_steps: Annotated[int, typer.Option("--picture-steps")] = PICTURES.steps,
    clip_steps: Annotated[int, typer.Option("--clip-steps")] = CLIPS.steps,
    picture_scenes: Annotated[int, typer.Option("--picture-scenes")] = PICTURES.scenes,
    clip_scenes: Annotated[int, typer.Option("--clip-scenes")] = CLIPS.scenes,
    lora: Annotated[
        int, typer.Option("--lora", help="Rank of the adapters in the language model, 0 for none.")
    ] = CLIPS.lora,
    questions: Annotated[int, typer.Option("--questions", help="Of each kind in the test.")] = 60,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Cores to use.")] = 2,
) -> None:
    """Build a LLaVA from a trained ViT-S/14 and SmolLM2-135M, train its projector, and test it."""
    import torch

    torch.set_num_threads(threads)
    stages = (
        replace(PICTURES, steps=picture_steps, scenes=picture_scenes, lora=lora),
        replace(CLIPS, steps=clip_steps, scenes=clip_scenes, lora=lora),
    )
    with watcher() as watch:
        build(folder, Plan(work, videos, stamps, stages, questions, seed), watch)
    typer.echo(f"the card is {folder / 'README.md'}")


if __name__ == "__main__":
    from framefusion.core.errors import FrameFusionError

    try:
        typer.run(main)
    except FrameFusionError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from error
