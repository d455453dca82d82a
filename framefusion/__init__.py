"""FrameFusion: any Hugging Face vision-language model reads far fewer visual tokens, by one reversible call.

    import framefusion as ff

    with ff.reduce(model, ff.FrameFusion(cost=0.3)) as reduction:
        output = model.generate(**inputs, max_new_tokens=64)
    print(reduction.report)

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefusion.calibration import calibrate as calibrate
    from framefusion.errors import FrameFusionError as FrameFusionError
    from framefusion.layout import Geometry as Geometry
    from framefusion.layout import Layout as Layout
    from framefusion.method import Method as Method
    from framefusion.methods.chain import Chain as Chain
    from framefusion.methods.framefusion import FrameFusion as FrameFusion
    from framefusion.plan import Plan as Plan
    from framefusion.reduction import Reduction as Reduction
    from framefusion.reduction import reduce as reduce
    from framefusion.registry import describe_all as methods  # noqa: F401

_NAMES = {
    "Chain": "framefusion.methods.chain",
    "FrameFusion": "framefusion.methods.framefusion",
    "FrameFusionError": "framefusion.errors",
    "Geometry": "framefusion.layout",
    "Layout": "framefusion.layout",
    "Method": "framefusion.method",
    "Plan": "framefusion.plan",
    "Reduction": "framefusion.reduction",
    "calibrate": "framefusion.calibration",
    "reduce": "framefusion.reduction",
}

__all__ = sorted([*_NAMES, "methods"])

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "methods":
        return import_module("framefusion.methods")
    places = {**_method_classes(), **_NAMES}
    if name in places:
        return getattr(import_module(places[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_method_classes()})


def _method_classes() -> dict[str, str]:
    """Class of every method of this package -> its module."""
    from framefusion.registry import METHODS

    return {name: module for module, _, name in (path.partition(":") for path in METHODS.values())}
