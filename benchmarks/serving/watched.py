"""What the processes of a server hold, and what it says about itself."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import dataclass

import psutil

GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")


@dataclass(frozen=True)
class Held:
    """By all processes of a server. mib: resident. files: open ones, with sockets."""

    mib: float
    files: int
    threads: int
    processes: int


def family_of(process: int) -> list[psutil.Process]:
    """A process and all that come of it."""
    try:
        first = psutil.Process(process)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def held(process: int) -> Held:
    """By a process and all that come of it."""
    mib, files, threads, count = 0.0, 0, 0, 0
    for one in family_of(process):
        try:
            mib += one.memory_info().rss / 2**20
            files += one.num_fds()
            threads += one.num_threads()
            count += 1
        except psutil.NoSuchProcess:
            continue
    return Held(round(mib, 1), files, threads, count)


def cpu_seconds(process: int) -> float:
    """Spent so far by a process and all that come of it."""
    times = [one.cpu_times() for one in family_of(process)]
    return sum(one.user + one.system for one in times)


def gauges(url: str) -> dict[str, float]:
    """Requests that run or wait and the share of the cache in use, of the server's page of metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    return {name: sum(map(float, re.findall(rf"^{name}\{{.*\}} (\S+)$", page, re.MULTILINE))) for name in GAUGES}


def left_running(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Those that have not ended after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end and any(map(_runs, processes)):
        time.sleep(0.2)
    return [one for one in processes if _runs(one)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
