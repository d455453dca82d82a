"""What keeps transformers' server from starting is said before anything is loaded."""

from __future__ import annotations

import sys

import pytest
from transformers.utils import import_utils

from framefusion.core.errors import MissingPackageError
from framefusion.core.registry import configure
from framefusion.integrations.transformers_serve.start import start


def test_a_package_that_only_the_command_of_transformers_imports(monkeypatch):
    for name in ("is_serve_available", "is_accelerate_available"):
        monkeypatch.setattr(import_utils, name, lambda: True)
    monkeypatch.delitem(sys.modules, "transformers.cli.transformers", raising=False)
    monkeypatch.setitem(sys.modules, "transformers.cli.chat", None)
    with pytest.raises(MissingPackageError, match="needs the package") as caught:
        start("model", "model", configure("uniform", {"keep": 0.3}), 8, [])
    assert "framefusion[serving]" in caught.value.hint
