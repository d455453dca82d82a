"""One engine per family for all tests: starting one is most of the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.checkpoints import SERVED, save_checkpoint
from tests.serving.engine import Engine


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a family -> its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: save_checkpoint(name, folder / name) for name in SERVED}


@pytest.fixture(scope="module", params=SERVED)
def engine(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Iterator[Engine]:
    from vllm.distributed import cleanup_dist_env_and_memory

    running = Engine(request.param, checkpoints[request.param], {"method": "framefusion", "keep": 0.5})
    yield running
    running.close()
    del running
    cleanup_dist_env_and_memory()
