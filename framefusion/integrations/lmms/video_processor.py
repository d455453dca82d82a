"""Video files for processors of transformers 5, which read paths only where torchcodec and FFmpeg are installed."""

from __future__ import annotations

from typing import Any


class VideoProcessor:
    """A processor that also takes paths of videos, decoded by PyAV, and lists without pictures.

    frames: read evenly over a video where the caller names no number. A shorter video gives all it has.
    """

    def __init__(self, processor: Any, frames: int) -> None:
        self._processor, self._frames = processor, frames

    def __call__(self, *args: Any, images: Any = None, videos: Any = None, **options: Any) -> Any:
        if videos and all(isinstance(video, str) for video in videos):
            videos, options = self._decoded(videos, options)
        return self._processor(*args, images=images or None, videos=videos or None, **options)

    def _decoded(self, videos: list[str], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        from transformers.video_utils import load_video

        chosen = {name: options.pop(name, None) for name in ("num_frames", "fps")}
        sampled = options.pop("do_sample_frames", False)

        def indices(metadata: Any, **_: Any) -> Any:
            total = metadata.total_num_frames
            if sampled:  # where the processor's own family would look
                asked = chosen | {"num_frames": min(chosen["num_frames"] or total, total)}
                return self._processor.video_processor.sample_frames(metadata, **asked)
            count = min(self._frames, total)
            return [round(step * (total - 1) / max(1, count - 1)) for step in range(count)]

        clips = [load_video(video, backend="pyav", sample_indices_fn=indices) for video in videos]
        metadata = [about for _, about in clips]
        return [frames for frames, _ in clips], options | {"video_metadata": metadata, "do_sample_frames": False}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)
