"""The promises of tests/conftest.py hold: no network, one thread, in this process and in those it starts."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch


def test_another_machine_is_out_of_reach():
    # 192.0.2.1 is reserved for documentation; nothing answers there.
    with socket.socket() as outside, pytest.raises(RuntimeError, match="tests run offline"):
        outside.connect(("192.0.2.1", 80))


def test_this_machine_is_within_reach():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())


def test_hub_is_offline():
    from huggingface_hub.constants import HF_HUB_OFFLINE

    assert HF_HUB_OFFLINE


def test_one_thread_here_and_in_children():
    assert torch.get_num_threads() == 1
    child = "import torch; print(torch.get_num_threads())"
    assert subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip() == "1"
