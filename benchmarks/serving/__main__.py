"""Throughput of vLLM's server: dense, with its own EVS where that works, and with the plugin.

    python -m benchmarks.serving --model Qwen/Qwen2.5-VL-7B-Instruct --video clip.mp4 --out serving.jsonl
    python -m benchmarks.serving --tiny qwen2_5_vl --requests 16
    python -m benchmarks.serving --tiny qwen2_5_vl --requests 16 --images --methods divprune,prumerge

Every set-up gets a server of its own and the same load: `requests` questions about one clip, or about the same
pictures, `concurrency` at a time; the plugin's server is asked once more to keep everything. Servers of a tiny
checkpoint run side by side and are asked in turn, `rounds` times; those of a model run one after the other. Caches of
prefixes and of processed media are off, so vLLM encodes them anew for every request. One row per set-up and concurrency
is appended to `out`; the table shows ratios to dense.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rows import provenance
from benchmarks.serving.load import Load, Took, ask, served
from benchmarks.serving.media import TINY_PICTURES, drawn, scene
from framefusion.integrations.vllm.command import stock_command
from tests.support.served import ServedModel

UNCACHED = ("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0")
SMALL = ("--max-model-len", "4096", "--enforce-eager")
DENSE = "dense"


@dataclass(frozen=True)
class Row:
    """One measurement.

    work: of a tiny checkpoint, see `shape.work`. requests_per_s and prompt_tokens_per_s: finished requests and their
    prompt tokens, by wall time; rounds: the former of each round. cpu_ms: of all processes of the server, for each
    request. about: versions and machine.
    """

    setup: str
    media: str
    model: str
    work: dict[str, float]
    concurrency: int
    requests: int
    failed: int
    prompt_tokens: int
    requests_per_s: float
    rounds: list[float]
    prompt_tokens_per_s: float
    latency_ms_median: float
    cpu_ms: float
    about: dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """words: command of a server. asked: name of each row of it -> fields of its requests."""

    words: list[str]
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def setups(model: str, keep: float, methods: list[str], pictures: bool) -> dict[str, Setup]:
    """By name."""
    stock = stock_command(model)
    found = {DENSE: Setup(stock, {DENSE: {}})}
    if not pictures:
        pruned = "vllm evs"
        found[pruned] = Setup([*stock, "--video-pruning-rate", str(round(1.0 - keep, 6))], {pruned: {}})
    whole: dict[str, Any] = {"pictures": {"keep": 1.0}} if pictures else {"keep": 1.0}
    everything = {"mm_processor_kwargs": {"visual_reduction": whole}}
    ours = [sys.executable, "-m", "framefusion", "serve", model, "--keep", str(keep), "--trust-request-mm-kwargs"]
    ours += ["--set", "pictures=true"] if pictures else []
    for method in methods:
        name = f"framefusion {method}"
        found[name] = Setup([*ours, "--method", method], {name: {}, f"{name}, keep 1.0": everything})
    return found


def measure(chosen: Mapping[str, Setup], arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Of set-ups whose servers run side by side and are asked in turn, so that a busy machine is busy for all of them.

    A set-up whose server does not come up, or that fails every request, is left out and said to be.
    """
    rows = []
    with ExitStack() as stack:
        servers: dict[str, ServedModel] = {}
        for number, (setup, what) in enumerate(chosen.items()):
            try:
                running = served(what.words, [*UNCACHED, *arguments.options], folder / f"{number}.log")
                servers[setup] = stack.enter_context(running)
            except RuntimeError as error:
                Console(stderr=True).print(f"{setup}: {error}", markup=False)
        if not servers:
            raise SystemExit(2)
        for concurrency in arguments.concurrency:
            asked = [(name, setup, extra) for setup in servers for name, extra in chosen[setup].asked.items()]
            took: dict[str, list[Took]] = {name: [] for name, _, _ in asked}
            for turn in track(range(arguments.rounds), f"{concurrency} at a time", console=Console(stderr=True)):
                for name, setup, extra in asked[turn % len(asked) :] + asked[: turn % len(asked)]:
                    took[name].append(asyncio.run(ask(servers[setup], _load(arguments, concurrency, extra))))
            rows += [row(name, arguments, concurrency, found) for name, found in took.items() if _said(name, found)]
    return rows


def _load(arguments: argparse.Namespace, concurrency: int, extra: Mapping[str, Any]) -> Load:
    """Of one round."""
    requests = max(-(-arguments.requests // arguments.rounds), concurrency)
    return Load(arguments.files, arguments.images, concurrency, requests, arguments.max_tokens, extra)


def _said(name: str, took: list[Took]) -> bool:
    """Whether there is an answer to measure; else the first error is shown."""
    if any(one.good for one in took):
        return True
    Console(stderr=True).print(f"{name}: every request failed: {took[0].found[0]}", markup=False)
    return False


def row(name: str, arguments: argparse.Namespace, concurrency: int, rounds: list[Took]) -> Row:
    good, requests = [one for took in rounds for one in took.good], sum(len(took.found) for took in rounds)
    machine, seconds = f"{platform.machine()}, {os.cpu_count()} cores, {_gpu()}", sum(took.seconds for took in rounds)
    return Row(
        setup=name,
        media="image" if arguments.images else "video",
        model=f"{arguments.tiny}, {arguments.sizes}" if arguments.tiny else arguments.model,
        work=arguments.work,
        concurrency=concurrency,
        requests=len(good),
        failed=requests - len(good),
        prompt_tokens=good[0][1],
        requests_per_s=len(good) / seconds,
        rounds=[round(len(took.good) / took.seconds, 3) for took in rounds],
        prompt_tokens_per_s=sum(tokens for _, tokens in good) / seconds,
        latency_ms_median=1000.0 * statistics.median(time for time, _ in good),
        cpu_ms=1000.0 * sum(took.cpu_s for took in rounds) / requests,
        about={**provenance(), "machine": machine},
    )


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def show(rows: list[Row]) -> None:
    dense = {row.concurrency: row.requests_per_s for row in rows if row.setup == DENSE}
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("set-up", min_width=len("framefusion"))
    for name in ("at a time", "prompt tokens", "requests / s", "of dense", "median ms", "CPU ms", "failed"):
        table.add_column(name, justify="right")
    for row in rows:
        ratio = f"{row.requests_per_s / dense[row.concurrency]:.2f}x" if row.concurrency in dense else "-"
        counts, speed = (str(row.concurrency), str(row.prompt_tokens)), f"{row.requests_per_s:.3g}"
        times = (f"{row.latency_ms_median:.0f}", f"{row.cpu_ms:.0f}")
        table.add_row(row.setup, *counts, speed, ratio, *times, str(row.failed or ""))
    Console().print(table)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--video", default="", help="a file; a drawn scene if none is given")
    parser.add_argument("--images", action="store_true", help="pictures instead of a video, drawn if none is given")
    parser.add_argument("--image", action="append", default=[], help="a PNG file, also several times; with --images")
    parser.add_argument("--tiny", default="", help="a family of tests/serving instead of a model")
    parser.add_argument("--sizes", default="shares", choices=["shares", "tests"], help="of --tiny, see shape.py")
    parser.add_argument("--keep", type=float, default=0.3)
    parser.add_argument("--methods", default="", help="of the plugin, separated by commas [framefusion; divprune]")
    parser.add_argument("--only", default="", help="names of set-ups, separated by commas")
    parser.add_argument("--concurrency", default="1,8,32")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument(
        "--rounds", type=int, default=0, help="turns of the set-ups, each with a part [4; 1 of a model]"
    )
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--out", default="serving.jsonl")
    parser.add_argument("--json", action="store_true", help="rows as lines of JSON instead of a table")
    parser.add_argument("options", nargs="*", help="after --: further options of `vllm serve`")
    arguments = parser.parse_args()
    arguments.images = arguments.images or bool(arguments.image)
    if not arguments.tiny and not (arguments.model and (arguments.video or arguments.images)):
        parser.error("give --model and --video or --images, or --tiny")
    arguments.concurrency = [int(number) for number in arguments.concurrency.split(",")]
    arguments.rounds = arguments.rounds or (4 if arguments.tiny else 1)
    arguments.methods = arguments.methods or ("divprune" if arguments.images else "framefusion")
    return arguments


def prepare(arguments: argparse.Namespace, folder: Path) -> None:
    """Checkpoint, files and options that were not given."""
    arguments.work = {}
    if arguments.images:
        size = (TINY_PICTURES.get(arguments.tiny, 8), 224, 112) if arguments.tiny else (1, 1344, 1008)
        arguments.files = [Path(file) for file in arguments.image] or drawn(folder, *size)
    else:
        arguments.files = [Path(arguments.video) if arguments.video else scene(folder / "clip.mp4")]
    if arguments.tiny:
        from benchmarks.serving.shape import frames, save, work
        from tests.serving.checkpoints import dtype_of

        checkpoint = save(arguments.tiny, folder, arguments.sizes, not arguments.images)
        arguments.model, arguments.work = str(checkpoint), work(checkpoint)
        sampling = json.dumps({"video": {"num_frames": frames(arguments.tiny, arguments.sizes)}})
        small = [*SMALL, "--dtype", dtype_of(arguments.tiny), "--media-io-kwargs", sampling]
        arguments.options = [*small, *arguments.options]


def main() -> None:
    arguments = read_arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(arguments, folder)
        wanted = set(filter(None, arguments.only.split(",")))
        found = setups(arguments.model, arguments.keep, arguments.methods.split(","), arguments.images)
        chosen = {name: setup for name, setup in found.items() if not wanted or name in wanted}
        for group in [chosen] if arguments.tiny else [{name: setup} for name, setup in chosen.items()]:
            measured = measure(group, arguments, folder)
            rows += measured
            with Path(arguments.out).open("a") as out:
                out.writelines(json.dumps(asdict(row)) + "\n" for row in measured)
    if arguments.json:
        sys.stdout.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
    else:
        show(rows)


if __name__ == "__main__":
    main()
