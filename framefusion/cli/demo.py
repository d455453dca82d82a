"""`framefusion demo`: dense against reduced on an embedded model and clip, offline."""

from __future__ import annotations

from typing import Annotated

import typer

from framefusion.cli.console import JSON_OPTION, note, quiet_libraries, working_on
from framefusion.cli.run import answer_clip

QUESTION = "What is happening?"


def demo(
    cost: Annotated[float, typer.Option("--cost", "--keep", help="FrameFusion's budget, a fraction in (0, 1].")] = 0.3,
    max_new_tokens: Annotated[int, typer.Option(help="Length of the answer.")] = 16,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Compare dense and reduced on a tiny model and a short clip that come with the package."""
    from framefusion.cli.options import build_method

    method = build_method("framefusion", cost, [])
    quiet_libraries()
    from framefusion.demo.clip import demo_clip
    from framefusion.demo.tiny import tiny_checkpoint

    with working_on("preparing the embedded model and clip"):
        clip, checkpoint = demo_clip(), tiny_checkpoint()
    note(f"{len(clip.frames)} frames, a model of {sum(p.numel() for p in checkpoint.model.parameters()):,} weights")
    answer_clip(checkpoint, clip, QUESTION, method, max_new_tokens, compare=True, as_json=json)
