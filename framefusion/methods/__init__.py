"""One paper per file. The package is also the function that lists them: `framefusion.methods()`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Methods(ModuleType):
    # `import framefusion.methods.x` binds the package to the name that users call.
    def __call__(self) -> list[dict[str, Any]]:
        """Facts and options of every method, as `framefusion methods --json` prints them."""
        from framefusion.registry import describe_all

        return describe_all()


sys.modules[__name__].__class__ = _Methods
