"""Answer on this machine: worker processes with a model each, which a bad clip can take down one at a time."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from framefusion.core.cores import usable_cores
from framefusion.core.errors import FrameFusionError, OptionError, WorkerError
from framefusion.core.options import Count, checked
from framefusion.inference.batch.job import Job, Task
from framefusion.inference.batch.rows import Row, failed
from framefusion.inference.batch.run import lost

READY, DONE = "ready", "done"
SECONDS_TO_END = 30


@dataclass
class Worker:
    """A process and the task it has. ready: its model is loaded. open: questions without a row yet."""

    place: int
    process: Any
    connection: Connection
    task: Task
    ready: bool = False
    open: list[str] = field(default_factory=list)

    def give(self, task: Task) -> None:
        self.task, self.open = task, list(task.questions)
        try:
            self.connection.send(task)
        except OSError:
            # It died; the next read finds that out, and what with.
            return


def answer_locally(
    job: Job, tasks: Sequence[Task], workers: int | None = None, prepare: Callable[[], None] | None = None
) -> Iterator[Row]:
    """Rows as they are finished. workers: processes, by default one per GPU, or one. prepare: what each does first.

    A worker that dies (a decoder that crashes, memory that runs out) costs the clip it had, and is replaced. Workers
    end with this process, however it ends.

    Raises WorkerError if one dies while loading the model, and what `Answerer` raises.
    """
    count = min(worker_count(job.device, workers), len(tasks))
    waiting = iter(tasks)
    busy: dict[Any, Worker] = {}
    processes: list[Any] = []
    settings = json.dumps(job.settings(), sort_keys=True)

    def start(place: int, task: Task) -> None:
        worker = _started(place, (job, device_of(place, job.device), _threads(count), prepare), task)
        busy[worker.connection] = worker
        processes.append(worker.process)

    try:
        for place in range(count):
            start(place, next(waiting))
        while busy:
            for connection in wait(list(busy)):
                worker = busy[connection]
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    del busy[connection]
                    yield from _buried(worker, settings)
                    task = next(waiting, None)
                    if task is not None:
                        start(worker.place, task)
                    continue
                row = _heard(worker, message)
                if row is not None:
                    yield row
                elif message == DONE and not _go_on(worker, next(waiting, None)):
                    del busy[connection]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(SECONDS_TO_END)


def worker_count(device: str | None, workers: int | None) -> int:
    """How many processes to start. Raises OptionError."""
    checked("--workers", Count | None, workers, "leave it out for one per GPU, or one")
    if device == "auto":
        if workers not in (None, 1):
            raise OptionError(
                "--device auto spreads one model over all GPUs",
                f"{workers} workers would share them",
                "use --workers 1",
            )
        return 1
    return workers or (max(1, _gpus()) if device in (None, "cuda") else 1)


def device_of(place: int, device: str | None) -> str | None:
    """Where a worker puts its model: GPUs in turn where the job names none."""
    gpus = _gpus() if device in (None, "cuda") else 0
    return f"cuda:{place % gpus}" if gpus else device


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _started(place: int, arguments: tuple[Any, ...], task: Task) -> Worker:
    # A forked child of a process with threads can hang, and would hold the journal open.
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, *arguments), name=f"framefusion-{place}", daemon=True)
    process.start()
    # Closed here, so that the pipe ends when the worker does.
    there.close()
    worker = Worker(place, process, here, task)
    worker.give(task)
    return worker


def _threads(workers: int) -> int | None:
    """Threads of torch in one worker: its share of the cores, unless the environment says otherwise."""
    if "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, usable_cores() // workers)


def _heard(worker: Worker, message: Any) -> Row | None:
    if isinstance(message, FrameFusionError):
        raise message
    if message == READY:
        worker.ready = True
    if not isinstance(message, Row):
        return None
    worker.open.remove(message.question)
    return message


def _go_on(worker: Worker, task: Task | None) -> bool:
    if task is not None:
        worker.give(task)
        return True
    worker.connection.close()
    worker.process.terminate()
    return False


def _buried(worker: Worker, settings: str) -> Iterator[Row]:
    """Rows for what a dead worker left open."""
    worker.connection.close()
    worker.process.join(SECONDS_TO_END)
    code = worker.process.exitcode
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    if not worker.ready:
        raise WorkerError("a worker died while it loaded the model", how, "if memory ran out, use fewer --workers")
    for question in worker.open:
        yield failed(worker.task.path, question, lost(worker.task.path, how), settings)


def _work(
    connection: Connection, job: Job, device: str | None, threads: int | None, prepare: Callable[[], None] | None
) -> None:
    """Life of a worker: it ends when its pipe does, so also when the process that started it is killed."""
    # Ctrl-C reaches every process of the terminal; the first one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if prepare is not None:
        prepare()
    try:
        _answer_all(connection, job, device, threads)
    except (EOFError, OSError):
        return


def _answer_all(connection: Connection, job: Job, device: str | None, threads: int | None) -> None:
    import torch

    from framefusion.inference.batch.answerer import Answerer

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        answerer = Answerer(job, device)
    except FrameFusionError as error:
        connection.send(error)
        return
    connection.send(READY)
    while True:
        for row in answerer.rows(connection.recv()):
            connection.send(row)
        if answerer.broken:
            # Without a word: a worker that ends with nothing open is replaced, and costs no clip.
            return
        connection.send(DONE)
