"""Kinds of questions as families of tasks, in place of those of the study of bits (arXiv 2402.18158)."""

from __future__ import annotations

from collections.abc import Iterable

TASKS = {
    "perception": ("colour", "shape", "count", "position", "relation"),
    "time": ("direction", "speed", "order2", "order3", "change"),
    "retrieval": ("needle", "digit"),
}
# Of a yardstick with kinds of its own.
OTHER = "other"


def task_of(kind: str) -> str:
    """perception: what is there. time: what happens in which order. retrieval: what a few frames of many show."""
    return next((task for task, kinds in TASKS.items() if kind in kinds), OTHER)


def tasks_of(kinds: Iterable[str]) -> tuple[str, ...]:
    """The families that these kinds belong to, in the order of `TASKS`."""
    found = {task_of(kind) for kind in kinds}
    return tuple(task for task in (*TASKS, OTHER) if task in found)
