"""Every test runs offline and on one thread per process, whatever the machine and its environment say."""

from __future__ import annotations

import os

# Before anything imports torch or transformers, which read these once. Processes that a test starts inherit them.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

import gc
import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

torch.set_num_threads(1)


def _is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine: a Unix socket, or the loopback interface."""
    if not isinstance(address, tuple):
        return True
    if address[0] == "localhost":
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return False


def _local_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if not _is_local(address):
            raise RuntimeError(f"a test tried to reach {address[0]}: tests run offline")
        return connect(self, address)

    return guarded


def pytest_collection_finish() -> None:
    """The tests themselves are a million objects, which every search for garbage would go through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """A connection to another machine fails at once, in the test that asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
        yield
