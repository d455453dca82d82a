"""One engine at a time for all tests, family by family: starting one is most of the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.checkpoints import SERVED, WITH_PICTURES, WITH_VIDEOS, save_checkpoint
from tests.serving.engine import Engine, OneEngine
from tests.serving.stock_model import StockModel


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a family -> its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: save_checkpoint(name, folder / name) for name in (*SERVED, *WITH_VIDEOS, *WITH_PICTURES)}


@pytest.fixture(scope="session")
def engines(checkpoints: dict[str, Path]) -> Iterator[OneEngine]:
    running = OneEngine(checkpoints)
    yield running
    running.close()


@pytest.fixture(scope="session", params=SERVED)
def family(request: pytest.FixtureRequest) -> str:
    """Of the whole session, so that the tests of all files run on one family before the next one's turn."""
    return request.param


@pytest.fixture
def engine(family: str, engines: OneEngine) -> Engine:
    return engines.of(family, {"method": "framefusion", "keep": 0.5})


@pytest.fixture(scope="session")
def stock(family: str, checkpoints: dict[str, Path]) -> StockModel:
    return StockModel(family, checkpoints[family])
