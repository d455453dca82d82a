"""Stand-ins for models whose code comes with their checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.dynamic_module_utils as dynamic

from framefusion.inference.answer.checkpoint import Checkpoint, load_checkpoint
from tests.support.remote import STAND_INS, save_stand_in


@pytest.fixture(scope="session")
def modules_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """transformers copies the code it is to run; the copies of these tests go with the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.syspath_prepend(dynamic.HF_MODULES_CACHE)
        yield


@pytest.fixture(scope="session")
def folders(modules_here: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what they answer is the same in every order of tests
        return {name: save_stand_in(name, home / name) for name in STAND_INS}


@pytest.fixture(scope="session")
def loaded(folders: dict[str, Path]) -> Callable[[str], Checkpoint]:
    found: dict[str, Any] = {}

    def load(name: str) -> Checkpoint:
        if name not in found:
            found[name] = load_checkpoint(str(folders[name]), device="cpu", trust_remote_code=True)
        return found[name]

    return load
