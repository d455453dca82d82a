"""Layers of the vision tower that can be looked into."""

from __future__ import annotations

from framefusion.errors import OptionError

WATCHED = (-1, -2)


def check_tower_layer(layer: int) -> None:
    """Raises OptionError unless `layer` is -1, the tower's last attention layer, or -2, the one before it."""
    if layer not in WATCHED:
        raise OptionError(f"tower_layer must be -1 or -2, got {layer}", "only the tower's last two layers are watched")
