"""The size that a model's processor gives the frames of a clip, taken from it before the clip is decoded.

So frames are made smaller one by one as they are decoded, by the processor's own filter and to its own size, and its
resize then leaves them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from framefusion.inference.answer.prompt import processed, takes_video
from framefusion.inference.video import Clip

if TYPE_CHECKING:
    import torch

    from framefusion.inference.answer.checkpoint import Checkpoint

TRIED = ((240, 320), (540, 960), (1080, 1920), (2160, 3840))
"""Sizes of frames of which some are made smaller by nearly every processor."""
TEMPORAL = 2


@dataclass(frozen=True, eq=False)
class ProcessorResize:
    """What a video processor does to the size of frames.

    resize: of the processor. place: of the video among its arguments, a number or a name. given: the other arguments,
    by place, as the processor is called for this model.
    """

    resize: Any
    place: int | str
    given: dict[int | str, Any]

    @staticmethod
    def of(checkpoint: Checkpoint) -> ProcessorResize | None:
        """None where frames can only be resized by the processor itself, all at once, or where it has no video."""
        import torch

        reader: Any = getattr(checkpoint.processor, "video_processor", None)
        if not takes_video(checkpoint) or not hasattr(reader, "resize") or "resize" in vars(reader):
            return None
        calls: list[dict[int | str, Any]] = []

        def note(*args: Any, **kwargs: Any) -> Any:
            places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
            calls.append(dict(places))
            raise _SeenEnoughError

        reader.resize = note
        try:
            processed(checkpoint, (_small_clip(),), "?")
        except Exception:  # a damaged checkpoint is told when the clip itself is processed
            return None
        finally:
            del reader.resize
        for call in calls:
            place = next((place for place, value in call.items() if _is_video(value, torch.Tensor)), None)
            if place is not None:
                found = ProcessorResize(reader.resize, place, {k: v for k, v in call.items() if k != place})
                return found if found._filters_alike() else None
        return None

    def size(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) that a clip of such frames gets; None where it is not smaller, or not left alone then."""
        target = self._target(frames, height, width)
        if target is None or target[0] * target[1] >= height * width:
            return None
        return target if self._target(frames, *target) == target else None

    def frame(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """picture: (H, W, 3) uint8 -> (height, width, 3) uint8, as the processor resizes it."""
        import torch

        resized = self._resized(torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).contiguous(), size)
        return resized.permute(1, 2, 0).numpy()

    def _resized(self, pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        from torchvision.transforms.v2 import functional
        from transformers.image_utils import pil_torch_interpolation_mapping

        resample = self.given.get("resample")
        filter_ = pil_torch_interpolation_mapping.get(resample, resample) or functional.InterpolationMode.BILINEAR
        return functional.resize(pixels, list(size), interpolation=filter_, antialias=True)

    def _call(self, videos: torch.Tensor) -> torch.Tensor:
        call = {**self.given, self.place: videos}
        args = [call[place] for place in sorted(place for place in call if isinstance(place, int))]
        return self.resize(*args, **{place: value for place, value in call.items() if isinstance(place, str)})

    def _target(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        """The size alone: tensors on the device `meta` hold no values."""
        import torch

        try:
            made = self._call(torch.empty((1, frames, 3, height, width), dtype=torch.uint8, device="meta"))
            return (int(made.shape[-2]), int(made.shape[-1])) if made.shape[:2] == (1, frames) else None
        except Exception:  # processors have no error of their own
            return None

    def _filters_alike(self) -> bool:
        """Whether one frame by `frame` is what the processor makes of it, within one grey level."""
        import torch

        for height, width in TRIED:
            size = self._target(TEMPORAL, height, width)
            if size is None or size[0] * size[1] >= height * width:
                continue
            draw = torch.Generator().manual_seed(0)
            pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=draw)
            theirs = self._call(pixels.expand(1, TEMPORAL, -1, -1, -1))[0, 0]
            return int((theirs.int() - self._resized(pixels, size).int()).abs().max()) <= 1
        return False


class _SeenEnoughError(Exception):
    pass


def _is_video(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and getattr(value, "ndim", 0) == 5


def _small_clip() -> Clip:
    times = tuple(map(float, range(TEMPORAL * 2)))
    return Clip(np.zeros((len(times), 112, 112, 3), np.uint8), times, 1.0, float(len(times)), len(times), "")
