"""`framefusion view`: draw what a method did to every patch of pictures and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from framefusion.cli.console import note, quiet_libraries, say, working_on
from framefusion.cli.media import (
    ABOUT,
    FrameRateOption,
    OfflineOption,
    media_and_question,
    read_media,
    reading_of,
)
from framefusion.cli.opening import check_run, open_checkpoint
from framefusion.cli.options import (
    CostOption,
    DeviceOption,
    DtypeOption,
    FpsOption,
    FramesOption,
    MethodOption,
    ModelOption,
    NewTokensOption,
    SettingsOption,
    TowerOption,
    TrustOption,
    behind_tower,
    build_method,
)
from framefusion.core.destination import check_file, is_marked, put
from framefusion.core.errors import OptionError
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.view.scene import Scene
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip

PAGE, PICTURE, ANIMATION = (".html", ".htm"), ".png", ".gif"
ANIMATED = ("points", "frames")
QUESTION = "What is happening?"


def view(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MEDIA... [QUESTION]",
            help=f"{ABOUT}; then what to ask.  \\[default: {QUESTION}]",
            show_default=False,
        ),
    ],
    to: Annotated[Path, typer.Option("--out", help="page.html, map.png or map.gif.")] = Path("view.html"),
    model: ModelOption = TINY,
    method: MethodOption = "framefusion",
    cost: CostOption = 0.3,
    settings: SettingsOption = None,
    tower: TowerOption = None,
    frames: FramesOption = 64,
    fps: FpsOption = None,
    frame_rate: FrameRateOption = 1.0,
    animate: Annotated[str, typer.Option(help="What a GIF runs through: points or frames.")] = "points",
    max_new_tokens: NewTokensOption = 64,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    offline: OfflineOption = False,
) -> None:
    """Show which patches of MEDIA the model still reads, and where the others went.

    A page (.html) is one file to click through, with the answers dense and reduced; .png is one panel per reduction
    point, .gif the same as an animation.

    Example: framefusion view clip.mp4 "What happens?" --out page.html --model Qwen/Qwen2.5-VL-3B-Instruct --cost 0.3
    """
    media, question = media_and_question(words, QUESTION)
    chosen = behind_tower(tower, build_method(method, cost, settings or []))
    check_run(dtype, max_new_tokens, device)
    _check(to, animate, media)
    clips = read_media(media, reading_of(frames, fps, frame_rate, offline))
    quiet_libraries()
    checkpoint = open_checkpoint(model, dtype, device, trust_remote_code)
    is_page = to.suffix.lower() in PAGE
    scene = look(checkpoint, clips, question, chosen, max_new_tokens if is_page else 1, with_dense=is_page)
    for message in scene.notes:
        note(message)
    with working_on(f"drawing {to.name}"):
        _write(scene, to, animate)
    say(str(to))


def _check(to: Path, animate: str, media: list[str]) -> None:
    if to.suffix.lower() not in (*PAGE, PICTURE, ANIMATION):
        raise OptionError(f"cannot write `{to.name}`", "its ending says no format", "use .html, .png or .gif")
    check_file(to, "--out", ours=is_marked, not_these=media)
    if animate not in ANIMATED:
        raise OptionError(f"--animate does not know `{animate}`", hint=f"use {' or '.join(ANIMATED)}")


def look(
    checkpoint: Checkpoint,
    media: Clip | tuple[Clip, ...],
    question: str,
    method: Method,
    new_tokens: int,
    with_dense: bool,
) -> Scene:
    """Ask and gather everything there is to show. Raises LayoutError where the prompt has no patches to draw."""
    from framefusion.evaluation.view.scene import scene_of
    from framefusion.inference.answer.prompt import as_media, build_prompt

    inputs = build_prompt(checkpoint, media, question)
    method = method.for_family(checkpoint.family)
    dense = None
    if with_dense:
        from framefusion.cli.compare import run_both

        dense, reduced = run_both(checkpoint, inputs, method, new_tokens)
    else:
        from framefusion.inference.answer.answer import ask

        with working_on("answering, reduced"):
            reduced = ask(checkpoint, inputs, method, new_tokens)
    return scene_of(checkpoint, as_media(media), question, inputs, method, reduced, dense)


def _write(scene: Scene, to: Path, animate: str) -> None:
    if to.suffix.lower() in PAGE:
        from framefusion.evaluation.view.page import page

        put(to, page(scene).encode())
        return
    from framefusion.evaluation.view.picture import write_animation, write_panels

    if to.suffix.lower() == PICTURE:
        write_panels(scene, to)
    else:
        write_animation(scene, to, over_frames=animate == "frames")
