"""The sizes of a model that weights of a reducer have to fit, read from its configuration and its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framefusion.core.model_shape import ModelShape
from framefusion.models.decoder_layers import described

if TYPE_CHECKING:
    from framefusion.engine.model.parts import ModelParts
    from framefusion.models.family import Family

VISION = ("vision_config", "vision_tower_config")
WIDTHS = ("hidden_size", "embed_dim", "d_model")


def shape_of(parts: ModelParts, family: Family) -> ModelShape:
    """Of the model that `parts` were found in."""
    vision = next((part for name in VISION if (part := getattr(parts.config, name, None)) is not None), None)
    text = parts.decoder_config
    decoder = described(text) if hasattr(text, "to_diff_dict") else ""
    return ModelShape(family.name, len(parts.blocks), _width(text) or 0, _width(vision), decoder)


def _width(config: Any) -> int | None:
    widths = (getattr(config, name, None) for name in WIDTHS)
    return next((value for value in widths if isinstance(value, int)), None)
