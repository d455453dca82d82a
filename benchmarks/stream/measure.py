"""Rows of the preset: one cell per policy for memory, latency and work, and one per stream for what they remember.

A policy that keeps everything looks through the whole stream for each question, and so is asked about the first only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.cells import HOURS, Cell
from benchmarks.stream.asked import answers_of, figures, grouped, line_of
from benchmarks.stream.watch import watched_apart
from benchmarks.timing import Spread
from framefusion.evaluation.long_streams import CONTROLS, Setting, by_age, draw_world, measure

Found = tuple[str, str, Spread | None, dict[str, Any]]
"""Variant, part, time, and what else its row says."""
MEMORY, LATENCY, WORK, ACCURACY = "memory", "latency", "work", "accuracy"
EARLY = 20
"""Windows after which memory is compared with the end, and of a young stream the latency with that of an old one."""
SHORTEST = 16
"""The longest stream of the measure of work is so many times as long as the shortest."""
WORDS = {"hermes": {"local": "what changed?", "overall": "how many things are there?"}}
"""By policy, options as on a command line: words that the embedded model knows."""
MIB = 2**20


def watching(cell: Cell, tick: Callable[[str], Any]) -> Iterator[Found]:
    """Rows of one policy: memory and latency after few windows and after all, and work by length.

    The latency after few windows is that of a second stream, fed by turns with the first one at its end.
    """
    windows = cell.frames // cell.window
    early = min(EARLY, windows)
    tick("watching")
    found = watched_apart(cell.policy, cell.memory, cell.window, cell.frames, early, torch.get_num_threads())
    about = {"policy": cell.policy, "control": False}
    for count, mark in zip((early, windows), found["marks"], strict=True):
        sizes = {"cache_mib": _mib(mark["cache"]), "peak_mib": _mib(mark["peak"])}
        yield f"{cell.policy}, {count} windows", MEMORY, None, {**about, "windows": count, **sizes}
    for count, stream in ((early, "young"), (windows, "old")):
        clock, processor = (list(column) for column in zip(*found[stream], strict=True))
        more = {"windows": count, "processor_ms": Spread.of(processor).median_ms}
        yield f"{cell.policy}, {count} windows", LATENCY, Spread.of(clock), {**about, **more}
    for frames in lengths(cell.frames, cell.window):
        spent = sum(processor for _, processor in found["spent"][: frames // cell.window])
        yield f"{cell.policy}, {frames} frames", WORK, Spread.of([spent]), {**about, "frames": frames}


def lengths(frames: int, window: int) -> list[int]:
    """Frames of the streams whose work is compared, each twice the one before, whole windows."""
    shares = [frames // factor for factor in (SHORTEST, SHORTEST // 2, SHORTEST // 4, 2, 1)]
    return sorted({max(1, share // window) * window for share in shares})


def asking(cell: Cell, tick: Callable[[str], Any]) -> Iterator[Found]:
    """Rows of accuracy of one stream: every policy and control at every age, with each answer."""
    import framefusion as ff
    from framefusion.inference.tiny import NAME

    checkpoint = ff.load_checkpoint(NAME, device="cpu")
    setting = Setting(memory=cell.memory, window=cell.window, tokens_per_frame=cell.patches)
    names, shown = policies() if cell.seed == HOURS[0].seed else bounded(), [0]

    def advance(count: int) -> None:
        shown[0] += count
        tick(f"frame {shown[0]} of {cell.frames}")

    answers = list(measure(checkpoint, draw_world(cell.seed, cell.frames), spoken(names), setting, advance))
    for group, own in grouped(answers):
        facts = {"policy": group.arm, "control": group.arm in CONTROLS, "age": group.age, "recent": setting.recent}
        more = {**figures(group), "answers": [line_of(answer) for answer in own]}
        yield f"{group.arm}, {group.age}", ACCURACY, None, facts | more


def policies() -> list[str]:
    """Names of all by which a question reads a bounded memory."""
    from framefusion.inference.stream.policies import POLICIES

    return sorted(set(POLICIES) - {"none"})


def spoken(names: list[str]) -> list[Any]:
    """The policies of these names with the options that suit the embedded model."""
    from framefusion.inference.stream.policies import policy_of

    return [policy_of(name, WORDS.get(name)) for name in names]


def bounded() -> list[str]:
    """Names of those that keep no more than that anywhere."""
    from framefusion.inference.stream.policies import POLICIES

    return [name for name in policies() if not POLICIES[name].retrieves]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """memory_ratio: of cache or process, the worse, after all windows over after few. latency_ratio: of the last
    windows over those of the young stream. exponent: of processor time over frames. Of the policy that is worst in
    each. ahead: by policy, age and control, points of accuracy over all streams, with the ends of the paired interval.
    """
    policies = {row["policy"] for row in rows if row["part"] == WORK}
    return {
        "memory_ratio": _worst(_ratio(rows, policy, MEMORY, ("cache_mib", "peak_mib")) for policy in policies),
        "latency_ratio": _worst(_ratio(rows, policy, LATENCY, ("median_ms",)) for policy in policies),
        "exponent": _worst(_exponent(rows, policy) for policy in policies),
        "ahead": _ahead([row for row in rows if row["part"] == ACCURACY]),
    }


def _ahead(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, list[float]]]]:
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for group in by_age(answers_of(rows)):
        if group.arm not in CONTROLS:
            found.setdefault(group.arm, {})[group.age] = figures(group)["ahead_of"]
    return found


def _ratio(rows: list[dict[str, Any]], policy: str, part: str, figures: tuple[str, ...]) -> float | None:
    own = sorted((row for row in rows if (row["part"], row["policy"]) == (part, policy)), key=_windows)
    if len(own) < 2:
        return None
    return _worst(own[-1][name] / own[0][name] for name in figures if own[0].get(name) and own[-1].get(name))


def _windows(row: dict[str, Any]) -> int:
    return row["windows"]


def _exponent(rows: list[dict[str, Any]], policy: str) -> float | None:
    from benchmarks.show.growth import exponent

    own = [row for row in rows if (row["part"], row["policy"]) == (WORK, policy)]
    return exponent([(row["frames"], row["median_ms"]) for row in own])


def _worst(figures: Any) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return round(max(known), 4) if known else None


def _mib(count: int | None) -> float | None:
    return None if count is None else round(count / MIB, 3)
