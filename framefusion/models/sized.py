"""Pictures whose sizes come with the prompt: in pixels (`image_sizes`), in patches (`spatial_shapes`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.layout_rules import lay_templates
from framefusion.models.placeholders import image_token

if TYPE_CHECKING:
    from torch import Tensor


def by_sizes(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout | None:
    """Layout from sizes (n, 2), None where they do not account for all placeholders.

    A token stands for a square of pixels or patches, the same in all pictures. Text may stand between the rows of a
    picture (Pixtral writes a break behind each).
    """
    token = image_token(config)
    count = 0 if token is None else int(ids.eq(token).sum())
    for name in ("image_sizes", "spatial_shapes"):
        sizes = inputs.get(name)
        if sizes is None or not count or getattr(sizes, "shape", ())[-1:] != (2,):
            continue
        known = sizes.reshape(-1, 2).tolist()
        # Pictures of earlier turns come first; whose they are in a batch, nobody knows.
        for first in range(len(known) if len(ids) == 1 else 1):
            templates = list(_templates(known[first:], count, _configured(config)))
            if templates:
                return lay_templates(ids, [(token, iter(templates))])
    return None


def _configured(config: Any) -> int:
    """Pixels of a token's side, 0 where the configuration does not say."""
    vision = getattr(config, "vision_config", None)
    patch = getattr(vision, "patch_size", 0)
    return patch * (getattr(config, "spatial_merge_size", None) or 1) if isinstance(patch, int) else 0


def _templates(sizes: Sequence[Sequence[int]], count: int, configured: int) -> Iterator[Geometry]:
    """None unless one side of a square makes `count` tokens of all sizes; only the configured one may leave a rest."""
    exact = round((sum(height * width for height, width in sizes) / count) ** 0.5)
    for side in (exact, configured):
        cells = [(height // side, width // side) for height, width in sizes] if side else []
        rest = side != configured and any(height % side or width % side for height, width in sizes if side)
        if not rest and cells and sum(rows * columns for rows, columns in cells) == count:
            yield from (Geometry.grid(1, rows, columns) for rows, columns in cells)
            return
