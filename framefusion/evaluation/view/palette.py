"""One set of colours for page and pictures: from Okabe and Ito's palette, which colour-blind people can tell apart.

Colour is never the only sign: pruned patches are hatched, survivors that carry others have a
frame, and patches that the vision tower did not encode have a corner cut off.
"""

from __future__ import annotations

MERGED = "#0072b2"
PRUNED = "#d55e00"
CARRIES = "#f0e442"
REPEATED = "#cc79a7"
EMPTY = "#80868e"
CLEAR = "#cfd8dc"

PAPER, INK = "#ffffff", "#1c2126"

FRESH, EARLIER = 0.76, 0.6
"""Share of the colour over a patch that the step at hand took out, and over one that an earlier step did."""


def rgb(colour: str) -> tuple[int, int, int]:
    """ "#rrggbb" as three numbers up to 255."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue
