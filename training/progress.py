"""Checkpoints of a stage, learning rates over its course, and a bar that says how far it is."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

BETWEEN_SAVES, SAY_EVERY = 60, 20


def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename, so that a kill leaves the previous state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    torch.save(state, fresh)
    os.replace(fresh, path)


def load(path: Path) -> dict[str, Any] | None:
    return torch.load(path, weights_only=True) if path.exists() else None


def note_time(work: Path, stage: str, seconds: float) -> None:
    """Add to the seconds a stage has taken; what a stopped run took since its last save is not counted."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "seconds.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[stage] = known.get(stage, 0.0) + seconds
    path.write_text(json.dumps(known, indent=2))


def rate_at(step: int, steps: int, warm: float = 0.03, cool: float = 0.4) -> float:
    """Up, flat, then down to nothing along a half cosine: a factor on the learning rates."""
    done = step / steps
    if done < warm:
        return done / warm
    return 1.0 if done < 1 - cool else 0.5 * (1 + math.cos(math.pi * (done - 1 + cool) / cool))


class Course:
    """A bar on a terminal; elsewhere one line every SAY_EVERY steps with the losses since the last one."""

    def __init__(self, title: str, steps: int, start: int = 0) -> None:
        self.title, self.steps, self.step = title, steps, start
        self.sums: Counter[str] = Counter()
        self.since, self.began, self.first = 0, time.monotonic(), start
        self.lapped = 0.0
        self.bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Course:
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=self.steps, completed=self.step, note="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self.lapped = self.lapped, self.seconds
        return self.lapped - before

    def advance(self, losses: dict[str, float]) -> None:
        self.step += 1
        self.since += 1
        self.sums.update(losses)
        if self.since == SAY_EVERY or self.step == self.steps:
            note = " ".join(f"{name} {total / self.since:.3f}" for name, total in self.sums.items())
            self.bar.update(self.task, note=note)
            if not console.is_terminal:
                pace = self.seconds / (self.step - self.first)
                left = pace * (self.steps - self.step) / 60
                say(f"{self.title} {self.step}/{self.steps}, {pace:.2f} s a step, {left:.0f} min left: {note}")
            self.sums.clear()
            self.since = 0
        self.bar.update(self.task, completed=self.step)


console = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    console.print(message, soft_wrap=True)
