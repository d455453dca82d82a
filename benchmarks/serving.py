"""Throughput of vLLM's server: dense, with its own EVS where that works, and with the plugin.

    python -m benchmarks.serving --model Qwen/Qwen2.5-VL-7B-Instruct --video clip.mp4 --out serving.jsonl
    python -m benchmarks.serving --tiny qwen2_5_vl --requests 16
    python -m benchmarks.serving --tiny qwen2_5_vl --requests 16 --images --methods divprune,prumerge

Every set-up gets a server of its own, one after the other, and the same load: `requests` questions about one clip, or
about the same pictures, `concurrency` at a time. Caches of prefixes and of processed media are off, so vLLM encodes
them anew for every request. One row per set-up and concurrency is appended to `out` once a set-up is measured; the
table shows ratios to dense.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from framefusion.integrations.vllm.command import stock_command

QUESTION = "What is there?"
NAME = "measured"
PATIENCE_S = 1800
WARM_UP = 2
TINY_PICTURES = {"llava_onevision": 5, "internvl": 20}
"""In one request, 8 if not said, so that every tiny checkpoint reads about 1000 visual tokens."""


@dataclass(frozen=True)
class Row:
    """One measurement. requests_per_s and tokens_per_s: finished requests and their prompt tokens, by wall time."""

    setup: str
    media: str
    model: str
    machine: str
    concurrency: int
    requests: int
    failed: int
    prompt_tokens: int
    requests_per_s: float
    prompt_tokens_per_s: float
    latency_ms_median: float


def setups(model: str, keep: float, methods: list[str], pictures: bool) -> dict[str, list[str]]:
    """Name -> command."""
    stock = stock_command(model)
    found = {"dense": stock}
    if not pictures:
        found["vllm evs"] = [*stock, "--video-pruning-rate", str(round(1.0 - keep, 6))]
    ours = [sys.executable, "-m", "framefusion", "serve", model, "--keep", str(keep)]
    ours += ["--set", "pictures=true"] if pictures else []
    return found | {f"framefusion {method}": [*ours, "--method", method] for method in methods}


@contextmanager
def server(words: list[str], options: list[str], log: Path) -> Iterator[str]:
    """A running server's address. Raises RuntimeError if it does not come up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", NAME]
    uncached = ["--no-enable-prefix-caching", "--mm-processor-cache-gb", "0"]
    with log.open("w") as output:
        command = [*words, *shared, *uncached, *options]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise RuntimeError(f"the server did not come up, its log ends:\n{log.read_text()[-2000:]}")


def shown(files: Sequence[Path], pictures: bool) -> list[dict[str, Any]]:
    """Parts of a message that show the files."""
    kind, media = ("image_url", "image/png") if pictures else ("video_url", "video/mp4")
    coded = [base64.b64encode(file.read_bytes()).decode() for file in files]
    return [{"type": kind, kind: {"url": f"data:{media};base64,{data}"}} for data in coded]


async def load(
    url: str, media: list[dict[str, Any]], concurrency: int, requests: int, tokens: int
) -> tuple[float, list[Any]]:
    """Seconds in all, and (seconds, prompt tokens) of each request or its exception."""
    from openai import AsyncOpenAI

    gate = asyncio.Semaphore(concurrency)

    async def ask(number: int) -> tuple[float, int]:
        # The number makes every prompt another one.
        content: Any = [*media, {"type": "text", "text": f"{number}. {QUESTION}"}]
        async with gate:
            start = time.perf_counter()
            answer = await client.chat.completions.create(
                model=NAME,
                messages=[{"role": "user", "content": content}],
                max_tokens=tokens,
                temperature=0,
                extra_body={"ignore_eos": True},
            )
            return time.perf_counter() - start, answer.usage.prompt_tokens if answer.usage else 0

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        await asyncio.gather(*(ask(-1 - number) for number in range(WARM_UP)), return_exceptions=True)
        start = time.perf_counter()
        found = await asyncio.gather(*(ask(number) for number in range(requests)), return_exceptions=True)
        return time.perf_counter() - start, list(found)


def measure(name: str, words: list[str], arguments: argparse.Namespace, log: Path) -> list[Row]:
    rows = []
    media = shown(arguments.files, arguments.images)
    with server(words, arguments.options, log) as url:
        for concurrency in track(arguments.concurrency, f"{name}", console=Console(stderr=True)):
            requests = max(arguments.requests, concurrency)
            seconds, found = asyncio.run(load(url, media, concurrency, requests, arguments.max_tokens))
            good = [entry for entry in found if isinstance(entry, tuple)]
            if not good:
                raise RuntimeError(f"every request failed: {found[0]}")
            rows.append(
                Row(
                    setup=name,
                    media="image" if arguments.images else "video",
                    model=arguments.tiny or arguments.model,
                    machine=f"{platform.machine()}, {os.cpu_count()} cores, {_gpu()}",
                    concurrency=concurrency,
                    requests=len(good),
                    failed=len(found) - len(good),
                    prompt_tokens=good[0][1],
                    requests_per_s=len(good) / seconds,
                    prompt_tokens_per_s=sum(tokens for _, tokens in good) / seconds,
                    latency_ms_median=1000.0 * statistics.median(time for time, _ in good),
                )
            )
    return rows


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def show(rows: list[Row]) -> None:
    dense = {row.concurrency: row.requests_per_s for row in rows if row.setup == "dense"}
    table = Table("set-up", "at a time", "prompt tokens", "requests / s", "of dense", "median ms", "failed")
    for row in rows:
        ratio = f"{row.requests_per_s / dense[row.concurrency]:.2f}x" if row.concurrency in dense else "-"
        speed, latency = f"{row.requests_per_s:.3g}", f"{row.latency_ms_median:.0f}"
        table.add_row(
            row.setup, str(row.concurrency), str(row.prompt_tokens), speed, ratio, latency, str(row.failed or "")
        )
    Console().print(table)


def tiny(family: str, folder: Path) -> Path:
    """A checkpoint with random weights, for machines without a GPU."""
    from tests.serving.checkpoints import save_checkpoint

    return save_checkpoint(family, folder / family, layers=8)


def noise(folder: Path) -> Path:
    """A clip of 32 frames."""
    import numpy as np

    from framefusion.inference.video import write_clip

    clip = folder / "clip.mp4"
    write_clip(clip, np.random.default_rng(0).integers(0, 256, (32, 112, 112, 3), dtype=np.uint8), fps=2.0)
    return clip


def drawn(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """Pictures of coloured rectangles."""
    import numpy as np
    from PIL import Image

    files = []
    for number in range(count):
        random = np.random.default_rng(number)
        picture = np.full((height, width, 3), 255, np.uint8)
        for _ in range(200):
            top, left = random.integers(0, height), random.integers(0, width)
            down, across = random.integers(1, height // 4, 2)
            picture[top : top + down, left : left + across] = random.integers(0, 256, 3)
        files.append(folder / f"{number}.png")
        Image.fromarray(picture).save(files[-1])
    return files


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--video", default="")
    parser.add_argument("--images", action="store_true", help="pictures instead of a video, drawn if none is given")
    parser.add_argument("--image", action="append", default=[], help="a PNG file, also several times; with --images")
    parser.add_argument("--tiny", default="", help="a family of tests/serving instead of a model")
    parser.add_argument("--keep", type=float, default=0.3)
    parser.add_argument("--methods", default="", help="of the plugin, separated by commas [framefusion; divprune]")
    parser.add_argument("--only", default="", help="names of set-ups, separated by commas")
    parser.add_argument("--concurrency", default="1,8,32")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--out", default="serving.jsonl")
    parser.add_argument("--json", action="store_true", help="rows as lines of JSON instead of a table")
    parser.add_argument("options", nargs="*", help="after --: further options of `vllm serve`")
    arguments = parser.parse_args()
    arguments.images = arguments.images or bool(arguments.image)
    if not arguments.tiny and not (arguments.model and (arguments.video or arguments.images)):
        parser.error("give --model and --video or --images, or --tiny")
    arguments.concurrency = [int(number) for number in arguments.concurrency.split(",")]
    arguments.methods = arguments.methods or ("divprune" if arguments.images else "framefusion")
    return arguments


def prepare(arguments: argparse.Namespace, folder: Path) -> None:
    """Checkpoint, files and options that were not given."""
    if arguments.images:
        size = (TINY_PICTURES.get(arguments.tiny, 8), 224, 112) if arguments.tiny else (1, 1344, 1008)
        arguments.files = [Path(file) for file in arguments.image] or drawn(folder, *size)
    else:
        arguments.files = [Path(arguments.video) if arguments.video else noise(folder)]
    if arguments.tiny:
        arguments.model = str(tiny(arguments.tiny, folder))
        small = ["--max-model-len", "4096", "--dtype", "float32", "--enforce-eager"]
        arguments.options = [*small, "--media-io-kwargs", '{"video": {"num_frames": 32}}', *arguments.options]


def main() -> None:
    arguments = read_arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(arguments, folder)
        wanted = set(filter(None, arguments.only.split(",")))
        methods = arguments.methods.split(",")
        for setup, words in setups(arguments.model, arguments.keep, methods, arguments.images).items():
            if wanted and setup not in wanted:
                continue
            try:
                found = measure(setup, words, arguments, folder / "server.log")
            except RuntimeError as error:
                Console(stderr=True).print(f"{setup}: {error}", markup=False)
                continue
            rows += found
            with Path(arguments.out).open("a") as out:
                out.writelines(json.dumps(asdict(row)) + "\n" for row in found)
    if arguments.json:
        sys.stdout.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
    else:
        show(rows)


if __name__ == "__main__":
    main()
