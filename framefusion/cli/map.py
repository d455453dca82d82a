"""`framefusion map`: the same questions about an archive of videos and pictures, as one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import JSON_OPTION, note, print_json, progress_on_stderr, quiet_libraries, say
from framefusion.cli.media import FrameRateOption, OfflineOption, reading_of
from framefusion.cli.opening import check_run
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
from framefusion.core.errors import OptionError
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.inference.batch import Job, Summary
    from framefusion.inference.batch.run import Engine, Watcher

ENGINES = ("local", "ray")


def map_(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="MEDIA...",
            help="Videos, pictures, folders of frames, http(s) addresses, or patterns in quotes: 'videos/**/*.mp4'.",
        ),
    ],
    questions: Annotated[
        list[str], typer.Option("--question", "-q", help="What to ask; may be given several times.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--out", help="answers.parquet, or .jsonl.", show_default=False)],
    engine: Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Models in memory.  \\[default: one per GPU, or one]", show_default=False)
    ] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Ask again where an error came of it.")] = False,
    model: ModelOption = TINY,
    method: MethodOption = "framefusion",
    cost: CostOption = 0.3,
    settings: SettingsOption = None,
    tower: TowerOption = None,
    frames: FramesOption = 64,
    fps: FpsOption = None,
    frame_rate: FrameRateOption = 1.0,
    max_new_tokens: NewTokensOption = 64,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    offline: OfflineOption = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Ask the same questions about many videos or pictures; one row per medium and question, answer or error.

    A run that was stopped, however, goes on where it was: the same command asks about no video twice.

    Example: framefusion map 'videos/*.mp4' --question "What happens?" --out answers.parquet --workers 2
    """
    from framefusion.inference.batch import Job, find_videos, map_videos
    from framefusion.inference.batch.table import check_table

    check_table(to)
    paths = find_videos(videos)
    chosen = behind_tower(tower, build_method(method, cost, settings or []))
    check_run(dtype, max_new_tokens, device if engine == "local" else None)  # a cluster's nodes have their own
    reading_of(frames, fps, frame_rate, offline)
    answer = _engine(engine, workers)
    quiet_libraries()
    loading: dict[str, Any] = {"trust_remote_code": trust_remote_code, "frame_rate": frame_rate, "offline": offline}
    job = Job(model, chosen, frames, fps, max_new_tokens, dtype, device, **loading)
    _tell(job)
    with _bar(to) as watch:
        found = map_videos(job, paths, questions, to, answer, retry_errors, watch)
    _show(found, to, json)


def _engine(name: str, workers: int | None) -> Engine:
    if name not in ENGINES:
        raise OptionError(f"--engine does not know `{name}`", hint=f"use {' or '.join(ENGINES)}")
    if name == "ray":
        from framefusion.integrations.ray_data import answer_with_ray

        return partial(answer_with_ray, workers=workers)
    from framefusion.inference.batch.local import answer_locally

    return partial(answer_locally, workers=workers, prepare=quiet_libraries)


def _tell(job: Job) -> None:
    """What the method says of this model, from its configuration alone; the workers load the rest."""
    from framefusion.inference.answer.checkpoint import family_at

    if job.method is not None:
        for message in job.method.notes(family_at(job.model)):
            note(message)


@contextmanager
def _bar(to: Path) -> Iterator[Watcher]:
    """A progress bar that also counts errors."""
    with progress_on_stderr(f"every row so far is kept in {to}.journal") as progress:
        task: Any = progress.add_task("starting workers", total=None)

        def watch(done: int, failed: int, total: int) -> None:
            what = "answering" + (f", {failed} failed" if failed else "")
            progress.update(task, description=what, completed=done, total=total)

        yield watch


def _show(found: Summary, to: Path, as_json: bool) -> None:
    if found.unreadable:
        note(f"{found.unreadable} lines of the journal could not be read; their videos were asked about again")
    if found.failed:
        note(f"{found.failed} of {found.rows} rows hold an error, in the columns error, why and hint")
    if as_json:
        from dataclasses import asdict

        print_json({"out": str(to), **asdict(found)})
        return
    say(f"{to}: {found.rows} rows, {found.answered} new")
