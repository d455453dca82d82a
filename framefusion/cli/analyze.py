"""`framefusion analyze`: how similar the tokens of neighbouring frames are, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import JSON_OPTION, err, note, out, print_json, quiet_libraries
from framefusion.cli.media import ABOUT, FrameRateOption, OfflineOption, reading_of, tell_damage
from framefusion.cli.opening import check_run, open_checkpoint
from framefusion.cli.options import DeviceOption, DtypeOption, FpsOption, FramesOption, ModelOption, TrustOption
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.evaluation.analysis.similarity import Analysis
    from framefusion.inference.answer.checkpoint import Checkpoint

QUESTION = "Describe the video."


def analyze(
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO...", help=f"{ABOUT}; each a clip of its own.", show_default=False),
    ],
    model: ModelOption = TINY,
    frames: FramesOption = 64,
    fps: FpsOption = None,
    frame_rate: FrameRateOption = 1.0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    offline: OfflineOption = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw both observations.")] = None,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Similarity of neighbouring frames by depth, its rank consistency between layers, and the threshold to use.

    Example: framefusion analyze a.mp4 b.mp4 --model Qwen/Qwen2.5-VL-3B-Instruct --plot similarity.png
    """
    check_run(dtype, 1, device)
    if plot is not None:
        from framefusion.evaluation.figure import check_figure

        check_figure(plot, not_these=videos)
    quiet_libraries()
    from framefusion.inference.media import load_media
    from framefusion.inference.media.load import check_names

    reading = reading_of(frames, fps, frame_rate, offline)
    check_names(videos)
    checkpoint = open_checkpoint(model, dtype, device, trust_remote_code)
    from framefusion.evaluation.analysis.similarity import analyze as watch
    from framefusion.inference.answer.fault import blaming
    from framefusion.inference.answer.frame_size import ProcessorResize

    resize = ProcessorResize.of(checkpoint)
    clips = (load_media(video, reading, resize) for video in videos)
    with blaming(checkpoint, _prompts(checkpoint, clips, len(videos))) as prompts:
        found = watch(checkpoint.model, prompts)
    if plot is not None:
        from framefusion.evaluation.analysis.plot import draw

        draw(found, checkpoint.name, plot)
        note(f"drawn in {plot}")
    if json:
        published = checkpoint.family.similarity_lower_bound
        read = {"frames": frames, "fps": fps}
        print_json({"model": checkpoint.name, **read, **found.to_dict(), "published_threshold": published})
    else:
        _show(found, checkpoint, frames, fps)


def _prompts(checkpoint: Checkpoint, clips: Any, count: int) -> Iterator[dict[str, Any]]:
    """Model inputs of one clip after the other, with a progress bar on stderr."""
    from rich.progress import track

    from framefusion.inference.answer.prompt import build_prompt

    for clip in track(clips, "reading videos", total=count, console=err, transient=True):
        tell_damage(clip)
        yield build_prompt(checkpoint, clip, QUESTION)


def _show(found: Analysis, checkpoint: Checkpoint, frames: int, fps: float | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from framefusion.evaluation.analysis.similarity import THRESHOLDS

    table = Table(
        title="cosine of visual tokens with the one at their place in the previous frame",
        caption="ρ: rank correlation with the first and with the next layer",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    names = ("layer", "median", "5–95 %", *(f"≥ {threshold:g}" for threshold in THRESHOLDS))
    for name in (*names, "ρ first", "ρ next"):
        table.add_column(name, justify="right", no_wrap=True)
    ranks = found.rank_correlation
    for layer in range(found.layers):
        low, high = found.quantiles[layer, 0], found.quantiles[layer, -1]
        following = f"{ranks[layer, layer + 1]:.2f}" if layer + 1 < found.layers else ""
        spread = f"{low:.2f}–{high:.2f}"
        shares = (f"{share:.0%}" for share in found.shares[layer])
        table.add_row(str(layer), f"{found.median[layer]:.3f}", spread, *shares, f"{ranks[0, layer]:.2f}", following)
    out.print(table)
    known = checkpoint.family.similarity_lower_bound
    beside = "" if known is None else f" (without it: {known:g})"
    out.print(f"recommended: --set similarity_lower_bound={found.recommended:.3f}{beside}")
    rate = "" if fps is None else f" --fps {fps:g}"
    note(
        f"it holds for --frames {frames}{rate}: frames that lie closer are more alike, so more frames need a higher one"
    )
