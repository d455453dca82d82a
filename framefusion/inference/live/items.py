"""What comes out of a source, and what passes between the steps inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np

Kind = Literal["stalled", "resumed", "cut", "back", "late", "restarted", "resized", "damaged", "ended"]


@dataclass(frozen=True, eq=False)
class Frame:
    """picture: (height, width, 3) uint8 RGB. seconds: since the first frame of the source; they increase strictly."""

    picture: np.ndarray = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class Notice:
    """Something that happened to the source. text: one sentence for people. kind:

    - `stalled`, `resumed`: no frame came for a while; one came again;
    - `cut`, `back`: the connection was lost; it was made anew;
    - `late`: a frame came after later ones;
    - `restarted`: the clock of the source was set back, seconds go on from where they were;
    - `resized`: frames have another size from here on; they are shown within that of the first;
    - `damaged`: something could not be read or decoded and was passed over;
    - `ended`: no frame will follow.
    """

    kind: Kind
    text: str


@dataclass(eq=False)
class Shown:
    """A decoded frame on its way. picture: PyAV's frame, or a finished (height, width, 3) uint8 array.

    stamp: seconds on the clock of the source. pixel: width of a pixel over its height. due: seconds since the first
    frame at which it is shown. seconds: the same, but later where frames behind it were given out already.
    """

    picture: Any
    stamp: float
    pixel: Fraction = Fraction(1)
    due: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Joint:
    """Between two connections or files. gap: seconds without frames that have passed on the wall clock."""

    gap: float = 0.0


Item = Shown | Notice
Raw = Shown | Notice | Joint
