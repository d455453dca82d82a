"""A server under mixed requests with faults, for as long as one likes.

    python -m benchmarks.serving.soak --tiny qwen2_5_vl --minutes 30 --out benchmarks/results/soak.jsonl

Reduced and dense requests about several clips and pictures, streamed or not, videos that cannot be read, settings that
make no sense, and clients that go away before an answer or in the middle of one, `concurrency` at a time in random
order. Every answer is compared with that of the same request asked alone, by its log-probabilities. At the end the
server must have nothing left to do; then it is killed while it works, started again, and asked everything once more.

Ends with 1 where an answer was another request's, a request failed or was not refused, something was left running, or
the restarted server answers otherwise. Whether memory grew is for the reader: the row has it over time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rows import provenance
from benchmarks.serving.load import NAME, PATIENCE_S
from benchmarks.serving.mixed import Answer, End, Request, check_told_apart, mixed, owner
from benchmarks.serving.watched import Held, family_of, gauges, held, left_running
from tests.serving.checkpoints import save_checkpoint
from tests.support.served import ServedModel, free_port

OPTIONS = (
    *("--max-model-len", "1024", "--max-num-seqs", "8", "--dtype", "float32", "--enforce-eager"),
    *("--media-io-kwargs", '{"video": {"num_frames": 8}}', "--limit-mm-per-prompt", '{"video": 2, "image": 2}'),
)
TOKENS = 8
SAMPLES = 60
DRAIN_S = 60.0
OUTLIVE_S = 10.0
"""Processes that have not followed a killed one by then count as left behind."""
SOON_S = 0.2
"""A client that goes away before its answer does so within this time."""


@dataclass
class Tally:
    """What became of the requests. foreign: answered with another one's answer. unknown: with nobody's."""

    ends: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.foreign or self.unknown or self.failed)


class Client:
    """Asks a server, and goes away where a request says so."""

    def __init__(self, url: str, seed: int = 0) -> None:
        from openai import AsyncOpenAI

        self.random = random.Random(seed)
        self._client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)

    async def close(self) -> None:
        await self._client.close()

    async def answer(self, request: Request) -> Answer:
        """Raises what the client of OpenAI raises."""
        if request.end is End.STREAMED:
            parts = [part.choices[0] async for part in await self._create(request, stream=True) if part.choices]
            return tuple(token.logprob for part in parts if part.logprobs for token in part.logprobs.content)
        said = (await self._create(request)).choices[0]
        return tuple(token.logprob for token in said.logprobs.content)

    async def go_away(self, request: Request) -> None:
        """Before the answer, or behind its first words."""
        if self.random.random() < 0.5:
            try:
                await asyncio.wait_for(self._create(request), self.random.random() * SOON_S)
            except TimeoutError:
                return
        stream = await self._create(request, stream=True)
        async for _ in stream:
            break
        await stream.close()

    async def _create(self, request: Request, **more: Any) -> Any:
        asked: dict[str, Any] = {"model": NAME, "max_tokens": TOKENS, "temperature": 0, "logprobs": True}
        extra = {"ignore_eos": True, **request.extra}
        messages: Any = [{"role": "user", "content": request.content}]
        return await self._client.chat.completions.create(**asked, messages=messages, extra_body=extra, **more)


async def expect(url: str, requests: Sequence[Request]) -> dict[str, Answer]:
    """The answer of every request that has one, each asked alone."""
    client = Client(url)
    answered = [request for request in requests if request.end in (End.ANSWERED, End.STREAMED)]
    found = {request.name: await client.answer(request) for request in answered}
    await client.close()
    return found


async def ask_one(client: Client, request: Request, expected: dict[str, Answer], tally: Tally) -> None:
    from openai import BadRequestError, OpenAIError

    try:
        if request.end is End.CANCELLED:
            await client.go_away(request)
        else:
            answer = await client.answer(request)
            if request.end is End.REFUSED:
                tally.failed.append(f"{request.name}: answered")
            elif (whose := owner(answer, expected)) != request.name:
                (tally.unknown if whose is None else tally.foreign).append(f"{request.name}: {whose or answer}")
    except BadRequestError as error:
        if request.end is not End.REFUSED:
            tally.failed.append(f"{request.name}: {error}"[:300])
    except OpenAIError as error:
        tally.failed.append(f"{request.name}: {type(error).__name__}: {error}"[:300])
    tally.ends[request.end] += 1


async def work(
    server: ServedModel, requests: Sequence[Request], expected: dict[str, Answer], seconds: float, concurrency: int
) -> tuple[Tally, list[Held]]:
    tally, samples, end = Tally(), [held(server.process.pid)], time.monotonic() + seconds

    async def worker(seed: int) -> None:
        client = Client(server.url, seed)
        while time.monotonic() < end and server.process.poll() is None:
            await ask_one(client, client.random.choice(requests), expected, tally)
        await client.close()

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(min(seconds / SAMPLES, max(0.0, end - time.monotonic())))
            samples.append(held(server.process.pid))

    await asyncio.gather(watch(), *map(worker, range(concurrency)))
    return tally, samples


def drained(url: str) -> dict[str, float]:
    """What the server says is left once nobody asks any more."""
    end, found = time.monotonic() + DRAIN_S, gauges(url)
    while any(found.values()) and time.monotonic() < end:
        time.sleep(0.5)
        found = gauges(url)
    return found


def killed(server: ServedModel, requests: Sequence[Request], concurrency: int) -> int:
    """Kill the server's first process while it works; how many others outlived it, which are killed too."""

    async def ask_and_kill() -> None:
        clients = [Client(server.url, number) for number in range(concurrency)]
        asking = [asyncio.create_task(client.answer(requests[0])) for client in clients]
        await asyncio.sleep(SOON_S)
        server.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*asking, return_exceptions=True)

    family = family_of(server.process.pid)
    asyncio.run(ask_and_kill())
    server.process.wait()
    left = left_running(family, OUTLIVE_S)
    for one in left:
        one.kill()
    return len(left)


def soak(family: str, seconds: float, concurrency: int, folder: Path) -> dict[str, Any]:
    """The row of a run. Raises RuntimeError where the server does not come up or requests cannot be told apart."""
    requests, port = mixed(folder), free_port()
    checkpoint = save_checkpoint(family, folder / family)
    words = [
        sys.executable,
        "-m",
        "framefusion",
        "serve",
        str(checkpoint),
        "--keep",
        "0.3",
        "--served-model-name",
        NAME,
    ]
    words += ["--set", "pictures=divprune", "--trust-request-mm-kwargs", *OPTIONS]

    def started(log: str) -> ServedModel:
        return ServedModel(words, folder / log, {}, PATIENCE_S, port=port).wait()

    server = started("log")
    try:
        expected = asyncio.run(expect(server.url, requests))
        check_told_apart(expected)
        tally, samples = asyncio.run(work(server, requests, expected, seconds, concurrency))
        left = drained(server.url)
        outlived = killed(server, requests, concurrency)
        start = time.monotonic()
        server = started("second log")
        again = asyncio.run(expect(server.url, requests))
        back = time.monotonic() - start
    finally:
        server.stop()
    changed = [name for name, answer in again.items() if owner(answer, expected) != name]
    clean = tally.clean and not any(left.values()) and not changed
    return {
        "benchmark": "soak",
        "model": family,
        "seconds": seconds,
        "concurrency": concurrency,
        "clean": clean,
        **vars(tally),
        "left": left,
        "held": [asdict(one) for one in samples],
        "outlived": outlived,
        "back_s": round(back, 1),
        "changed_by_restart": changed,
        "about": provenance(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", default="qwen2_5_vl", help="a family of tests/serving")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--out", default="soak.jsonl")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        row = soak(arguments.tiny, 60.0 * arguments.minutes, arguments.concurrency, Path(name))
    with Path(arguments.out).open("a") as out:
        out.write(json.dumps(row) + "\n")
    sys.stdout.write(json.dumps({**row, "held": [row["held"][0], row["held"][-1]]}) + "\n")
    return 0 if row["clean"] else 1


if __name__ == "__main__":
    sys.exit(main())
