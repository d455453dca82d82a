"""Modules under the names they had before: imported under one of them, a module warns and is the one of today."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {
    "core": ["errors", "layout", "method", "options", "ops", "plan", "progressive", "registry", "scored", "stage"],
    "inference": ["answer", "batch", "llava_video", "quantization", "reduction", "report", "tiny", "video"],
    "evaluation": ["analysis", "calibration", "study", "view"],
}
FORMER = {
    **{f"framefusion.{name}": f"framefusion.{room}.{name}" for room, names in _MOVED.items() for name in names},
    "framefusion.demo": "framefusion.cli.demo_clip",
    "framefusion.interface": "framefusion.inference.published_call",
    "framefusion.yardstick": "framefusion.evaluation.synthetic_questions",
}


class FormerModules(MetaPathFinder, Loader):
    """Finds the modules of `FORMER` and what lies in them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        former = ".".join(fullname.split(".")[:2])
        if former not in FORMER:
            return None
        now = FORMER[former] + fullname.removeprefix(former)
        warnings.warn(f"{fullname} is called {now} now", DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, self, loader_state=now)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(spec.loader_state)
        # The import system writes `spec` over the module's own; the own one is kept to be put back.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state
