"""How much one visitor may ask for."""

from __future__ import annotations

from dataclasses import dataclass

QUESTION = 2000
"""Characters of a question."""

READ_SECONDS = 120
"""For one clip to be read, fetching included."""

READ_BYTES = 2**32
"""Address space of the process that reads a clip."""

KEPT_SECONDS = 3600
"""From an upload to its deletion, if its visitor has neither left nor replaced it."""

STORED = 20
"""Uploads of the largest size that are kept at a time, all visitors together."""

REQUEST_BYTES = 2**20
"""Of a request that is no upload."""


@dataclass(frozen=True)
class Limits:
    """upload: bytes of one file. frames: of a clip. new_tokens: of an answer. waiting: visitors in the queue."""

    upload: int = 100 * 2**20
    frames: int = 64
    new_tokens: int = 64
    waiting: int = 20
