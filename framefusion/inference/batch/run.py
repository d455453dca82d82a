"""A job from its clips to its result, whatever engine answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from framefusion.core.errors import LayoutError, OptionError, PromptError, VideoError, WorkerError
from framefusion.inference.batch.inputs import check_text
from framefusion.inference.batch.job import Job, Task
from framefusion.inference.batch.rows import Key, Row, error_of, failed
from framefusion.inference.batch.store import Store

Engine = Callable[[Job, Sequence[Task]], Iterator[Row]]
Watcher = Callable[[int, int, int], None]
"""Called with the rows there are, those of them with an error, and the rows there will be."""

# Errors of one clip. Any other of ours speaks of the model or the method, and would befall every clip.
OF_A_CLIP = (VideoError, PromptError, LayoutError, WorkerError)


@dataclass(frozen=True)
class Summary:
    """rows: asked for; found: of an earlier run; answered: now; failed: of all rows, those with an error.

    unreadable: lines of the journal that could not be read, whose clips were asked again.
    """

    rows: int
    found: int
    answered: int
    failed: int
    unreadable: int


def map_videos(
    job: Job,
    paths: Sequence[str],
    questions: Sequence[str],
    out: str | Path,
    engine: Engine,
    retry_errors: bool = False,
    watch: Watcher | None = None,
) -> Summary:
    """Ask every question about every video and write one row for each into `out`.

    A clip and question that has a row in `out`, or in the journal of a run that was stopped, is not asked again;
    retry_errors: unless that row holds an error. Rows of other clips and questions stay in `out`.

    Raises RecordsError, and whatever says that the model or the method cannot answer any clip.
    """
    if not questions or not all(question.strip() for question in questions):
        raise OptionError("no question is given", hint="write --question 'What happens?'")
    for text in (*paths, *questions):
        check_text(text)
    keys = [(path, question) for path in dict.fromkeys(paths) for question in dict.fromkeys(questions)]
    with Store(Path(out), job.settings()) as store:
        left = {key for key in keys if key not in store.found or (retry_errors and not store.found[key])}
        found = len(keys) - len(left)
        bad = sum(not store.found[key] for key in keys if key not in left)
        for done, row in enumerate(_rows(job, engine, keys, left), start=found + 1):
            _stop_if_hopeless(row, store)
            store.add(row)
            bad += row.error is not None
            if watch is not None:
                watch(done, bad, len(keys))
        store.finish()
        return Summary(len(keys), found, len(keys) - found, bad, store.unreadable)


def _rows(job: Job, engine: Engine, keys: list[Key], left: set[Key]) -> Iterator[Row]:
    """Each of `left` once: an engine may repeat itself after a fault, or lose a clip with its worker."""
    if not left:
        return
    for row in engine(job, _tasks(keys, left)):
        if row.key in left:
            left.discard(row.key)
            yield row
    settings = json.dumps(job.settings(), sort_keys=True)
    for path, question in sorted(left):
        yield failed(path, question, lost(path), settings)


def _tasks(keys: list[Key], left: set[Key]) -> list[Task]:
    tasks: dict[str, list[str]] = {}
    for path, question in keys:
        if (path, question) in left:
            tasks.setdefault(path, []).append(question)
    return [Task(path, tuple(questions)) for path, questions in tasks.items()]


def lost(path: str, why: str = "") -> WorkerError:
    """The error of a clip whose worker is gone."""
    hint = "if memory ran out, use fewer --workers or --frames; --retry-errors asks again"
    return WorkerError(f"the worker died while it answered {path}", why, hint)


def _stop_if_hopeless(row: Row, store: Store) -> None:
    """An error of the model or the method, before anything was answered, ends the job instead of filling the result."""
    problem = error_of(row)
    if problem is not None and not isinstance(problem, OF_A_CLIP) and not any(store.found.values()):
        raise problem
