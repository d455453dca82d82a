"""Servers that are measured, and the requests they are asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.watched import cpu_seconds
from tests.support.served import ServedModel, part_of, text_of

NAME = "measured"
QUESTION = "What is there?"
PATIENCE_S = 1800
WARM_UP = 2


@dataclass(frozen=True)
class Load:
    """The same question about the same files, `concurrency` at a time.

    tokens: of an answer. extra: fields of a request that the openai client does not know.
    """

    media: Sequence[Path]
    pictures: bool
    concurrency: int
    requests: int
    tokens: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> list[dict[str, Any]]:
        return [part_of("image_url" if self.pictures else "video_url", path) for path in self.media]


@contextmanager
def served(words: Sequence[str], options: Sequence[str], log: Path) -> Iterator[ServedModel]:
    """A running server. Raises RuntimeError if it does not come up."""
    server = ServedModel([*words, "--served-model-name", NAME, *options], log, {}, PATIENCE_S)
    try:
        yield server.wait()
    finally:
        server.stop()


@dataclass(frozen=True)
class Took:
    """seconds: of all requests together. cpu_s: of the server's processes. found: (seconds, prompt tokens) of each
    request, or its exception."""

    seconds: float
    cpu_s: float
    found: list[Any]

    @property
    def good(self) -> list[tuple[float, int]]:
        return [one for one in self.found if isinstance(one, tuple)]


async def ask(server: ServedModel, load: Load) -> Took:
    from openai import AsyncOpenAI

    gate, media = asyncio.Semaphore(load.concurrency), load.content

    async def one(number: int) -> tuple[float, int]:
        # The number makes every prompt another one.
        content: Any = [*media, text_of(f"{number}. {QUESTION}")]
        async with gate:
            start = time.perf_counter()
            answer = await client.chat.completions.create(
                model=NAME,
                messages=[{"role": "user", "content": content}],
                max_tokens=load.tokens,
                temperature=0,
                extra_body={"ignore_eos": True, **load.extra},
            )
            return time.perf_counter() - start, answer.usage.prompt_tokens if answer.usage else 0

    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        await asyncio.gather(*(one(-1 - number) for number in range(WARM_UP)), return_exceptions=True)
        start, cpu = time.perf_counter(), cpu_seconds(server.process.pid)
        found = await asyncio.gather(*(one(number) for number in range(load.requests)), return_exceptions=True)
        return Took(time.perf_counter() - start, cpu_seconds(server.process.pid) - cpu, list(found))
