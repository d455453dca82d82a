"""One engine at a time for all tests, family by family: starting one is most of the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.checkpoints import SERVED, save_checkpoint
from tests.serving.engine import Engine, OneEngine
from tests.serving.stock_model import StockModel


class Checkpoints(dict[str, Path]):
    """Name of a family -> its checkpoint, written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        self[name] = save_checkpoint(name, self.folder / name)
        return self[name]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


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
