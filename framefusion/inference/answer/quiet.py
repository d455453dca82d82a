"""Other libraries' remarks about what this package does with them, which say nothing to whoever asked a question."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

# torchao on kernels of other machines, pytree on torchao, transformers on what a processor will do in later releases.
CHATTY = ("torchao", "torch.utils._pytree", "transformers")

_lock = Lock()
_before: dict[str, int] = {}
_inside = 0


@contextmanager
def without_chatter() -> Iterator[None]:
    """Within the block these libraries log errors only; levels are as before when the last thread has left it."""
    global _inside
    with _lock:
        if _inside == 0:
            for name in CHATTY:
                _before[name] = logging.getLogger(name).level
                logging.getLogger(name).setLevel(max(_before[name], logging.ERROR))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for name, level in _before.items():
                    logging.getLogger(name).setLevel(level)
