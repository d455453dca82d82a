"""Answer on a Ray cluster: a pool of actors with a model each, fed by Ray Data one clip at a time."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from framefusion.core.errors import FrameFusionError, MissingPackageError, OptionError
from framefusion.core.options import Count, checked
from framefusion.inference.batch.job import Job, Task
from framefusion.inference.batch.rows import Row, error_of

# One clip in work and one to go on with: what a killed run had begun is asked again.
CLIPS_PER_ACTOR = 2
COLUMN = "row"


class Actor:
    """A worker. A model that cannot be loaded becomes rows without settings: an exception here would be retried."""

    def __init__(self, job: Job) -> None:
        from framefusion.inference.batch.answerer import Answerer

        self.job = job
        self.problem: FrameFusionError | None = None
        try:
            self.answerer = Answerer(job)
        except FrameFusionError as error:
            self.problem = error

    def __call__(self, item: dict[str, Any]) -> Iterator[dict[str, str]]:
        from framefusion.inference.batch.rows import failed

        task = Task(item["path"], tuple(item["questions"]))
        if self.problem is not None:
            rows: Any = (failed(task.path, question, self.problem, "") for question in task.questions)
        elif self.answerer.broken:
            # Ray starts the actor anew and gives it this clip again.
            os._exit(1)
        else:
            rows = self.answerer.rows(task)
        for row in rows:
            yield {COLUMN: row.to_line()}


def answer_with_ray(job: Job, tasks: Sequence[Task], workers: int | None = None) -> Iterator[Row]:
    """Rows as they are finished, from the cluster that RAY_ADDRESS names or that runs here, else from one of our own.

    workers: actors, by default one per GPU, or one. GPUs, or else cores, are shared out evenly among them. The videos
    must be readable under the same paths on every node. A clip whose actor dies twice yields no row.

    Raises MissingPackageError without Ray, OptionError, and what `Answerer` raises.
    """
    ray = _ray()
    checked("--workers", Count | None, workers, "leave it out for one per GPU, or one")
    if job.device not in (None, "cpu", "cuda"):
        raise OptionError(f"--device {job.device} does not go with Ray", "it hands out the GPUs", "leave --device out")
    started = not ray.is_initialized()
    if started:
        # A cluster of our own reports nothing to anybody.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="error")
    try:
        yield from _answers(ray, job, tasks, workers)
    finally:
        if started:
            ray.shutdown()


def shares(workers: int | None, tasks: int, cores: Sequence[int], gpus: int) -> tuple[int, dict[str, float]]:
    """Number of actors, and what each reserves, so that all of them find room. cores: of each node."""
    count = min(workers or max(1, gpus), tasks)
    if gpus:
        # An actor takes a whole GPU, or as many share one as must.
        return count, {"num_gpus": 1 / math.ceil(count / gpus)}
    for share in range(max(cores), 0, -1):
        if sum(node // share for node in cores) >= count:
            return count, {"num_cpus": float(share)}
    return count, {"num_cpus": 1 / math.ceil(count / max(1, sum(cores)))}


def _answers(ray: Any, job: Job, tasks: Sequence[Task], workers: int | None) -> Iterator[Row]:
    import ray.data as data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = 0 if job.device == "cpu" else sum(int(node.get("GPU", 0)) for node in nodes)
    count, reserved = shares(workers, len(tasks), [int(node.get("CPU", 0)) for node in nodes], gpus)
    job = replace(job, device="cuda" if gpus else "cpu", model=_everywhere(job.model), name=job.name or job.model)
    context = data.DataContext.get_current()
    before = context.enable_progress_bars, context.max_errored_blocks
    # A clip that kills its actor costs its own row only; `map_videos` sees which are missing.
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    try:
        # Blocks of one clip: a block is what Ray hands on when it is complete.
        clips = data.from_items(
            [{"path": task.path, "questions": list(task.questions)} for task in tasks], override_num_blocks=len(tasks)
        )
        with warnings.catch_warnings():
            # Limits on restarts are given by keywords that newer releases warn about.
            warnings.simplefilter("ignore", DeprecationWarning)
            answered = clips.flat_map(
                Actor,
                fn_constructor_kwargs={"job": job},
                compute=data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=CLIPS_PER_ACTOR),
                max_restarts=-1,
                max_task_retries=1,
                **reserved,
            )
        for batch in answered.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
            yield from _read(batch[COLUMN].to_pylist())
    finally:
        context.enable_progress_bars, context.max_errored_blocks = before


def _read(lines: list[str]) -> Iterator[Row]:
    for line in lines:
        row = Row.from_line(line)
        if row is None:
            continue
        problem = error_of(row)
        if problem is not None and not row.settings:
            raise problem
        yield row


def _everywhere(model: str) -> str:
    """A local path by its full name: actors have folders of their own."""
    return os.path.abspath(model) if os.path.isdir(model) else model


def _ray() -> Any:
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError as error:
        hint = "pip install 'framefusion[ray]', or use --engine local on one machine"
        raise MissingPackageError("--engine ray needs Ray", f"{error.name} is not installed", hint) from error
    return ray
