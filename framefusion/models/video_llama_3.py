"""VideoLLaMA 3: grids like Qwen-VL, less the tokens its processor found unchanged from one frame to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, lay_templates
from framefusion.models.placeholders import image_token, video_token

if TYPE_CHECKING:
    from torch import Tensor


def templates(sizes: Any, merges: Any, kept: Tensor | None) -> Iterator[Geometry]:
    """sizes: (n, 3). merges: (n,). kept: bool over all tokens of all videos, None when none was dropped."""
    first = 0
    for number, (frames, height, width) in enumerate(sizes.tolist() if sizes is not None else ()):
        merge = int(merges[number]) if merges is not None else 1
        whole = Geometry.grid(frames, height // merge, width // merge)
        yield whole if kept is None else whole[kept[first : first + len(whole)].cpu()]
        first += len(whole)


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    images, videos = inputs.get("image_grid_thw"), inputs.get("video_grid_thw")
    if images is None and videos is None:
        return by_runs(config, inputs, ids)
    kept = inputs.get("video_compression_mask")
    sources = [
        (image_token(config), templates(images, inputs.get("image_merge_sizes"), None)),
        (video_token(config), templates(videos, inputs.get("video_merge_sizes"), kept)),
    ]
    return lay_templates(ids, sources)


VIDEO_LLAMA_3 = Family("video_llama_3", layout)
