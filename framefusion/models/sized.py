"""Pictures whose sizes come with the prompt: in pixels (`image_sizes`), in patches (`spatial_shapes`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.layout import Geometry, Layout
from framefusion.models.placeholders import image_token

if TYPE_CHECKING:
    from torch import Tensor


def by_sizes(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout | None:
    """Layout from sizes (n, 2), None where they do not account for all placeholders.

    A token stands for a square of pixels or patches, the same in all pictures. Text may stand between the rows of a
    picture (Pixtral writes a break behind each).
    """
    from framefusion.models.rules import lay_templates

    token = image_token(config)
    count = 0 if token is None else int(ids.eq(token).sum())
    for name in ("image_sizes", "spatial_shapes"):
        sizes = inputs.get(name)
        if sizes is None or not count or getattr(sizes, "shape", ())[-1:] != (2,):
            continue
        known = sizes.reshape(-1, 2).tolist()
        # Pictures of earlier turns come first; whose they are in a batch, nobody knows.
        for first in range(len(known) if len(ids) == 1 else 1):
            templates = list(_templates(known[first:], count))
            if templates:
                return lay_templates(ids, [(token, iter(templates))])
    return None


def _templates(sizes: Sequence[Sequence[int]], count: int) -> Iterator[Geometry]:
    """None unless one side of a square makes `count` tokens of all sizes."""
    side = round((sum(height * width for height, width in sizes) / count) ** 0.5)
    if not side or any(height % side or width % side for height, width in sizes):
        return
    if sum(height * width for height, width in sizes) == count * side**2:
        for height, width in sizes:
            yield Geometry.grid(1, height // side, width // side)
