"""Options: declared once, by the annotation of a field, and from that checked, read from words and described.

    keep: Keep = 0.3
    tau: Annotated[float, Interval("[-1, 1]")] = 0.9

Names for what several methods declare are in `common`.
"""

from framefusion.core.options.common import (
    DTYPES,
    AttendedLayer,
    Cosine,
    Count,
    Keep,
    Layer,
    Mix,
    Rate,
    Seed,
    Share,
    Sigma,
    TowerLayer,
)
from framefusion.core.options.limits import Interval, OneOf
from framefusion.core.options.option import NOT_AN_OPTION, Option, checked, options_of, settle, shown

__all__ = [
    "DTYPES",
    "NOT_AN_OPTION",
    "AttendedLayer",
    "Cosine",
    "Count",
    "Interval",
    "Keep",
    "Layer",
    "Mix",
    "OneOf",
    "Option",
    "Rate",
    "Seed",
    "Share",
    "Sigma",
    "TowerLayer",
    "checked",
    "options_of",
    "settle",
    "shown",
]
