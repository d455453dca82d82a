"""One paper per file. `framefusion.list_methods()` has the facts of all of them."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any


class _Methods(ModuleType):
    # `framefusion.methods()` is how they were listed; the name is also that of this package.
    def __call__(self) -> list[dict[str, Any]]:
        """`framefusion.list_methods()`, and a warning that this is its name."""
        from framefusion.core.registry import list_methods

        warnings.warn(
            "framefusion.methods() is called framefusion.list_methods() now", DeprecationWarning, stacklevel=2
        )
        return list_methods()


sys.modules[__name__].__class__ = _Methods
