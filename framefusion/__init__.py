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
    from framefusion.methods.framefusion import FrameFusion as FrameFusion
    from framefusion.plan import Plan as Plan
    from framefusion.reduction import Reduction as Reduction
    from framefusion.reduction import reduce as reduce

_NAMES = {
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

__all__ = sorted(_NAMES)

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
