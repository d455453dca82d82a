"""Prompts as a family's own processor writes them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from framefusion.models.layout_rules import VIDEO_TYPE
from framefusion.models.placeholders import image_token, video_token
from framefusion.testing.conformance.reading import OPTIONS

if TYPE_CHECKING:
    from framefusion.testing.conformance.visuals import Visual

RATE = 2.0
IMAGE_NAMES = ("image_token", "boi_token", "fake_image_token")
BOI_FIRST = ("gemma3", "gemma3n", "shieldgemma2", "t5gemma2", "pi0")


def written(
    name: str,
    reader: Any,
    model: Any,
    visuals: Sequence[Visual],
    between: str = "",
    sample: bool = False,
    rate: float = RATE,
    **call: Any,
) -> dict[str, Any]:
    """Model inputs of one prompt. between: text between two visuals. sample: leave sampling to the processor."""
    given = OPTIONS.get(name, {})
    marks = {"image": marker(name, reader, "image"), "video": marker(name, reader, "video")}
    before, after = given.get("wrap", {}).get("all", ("", ""))
    pieces = []
    for visual in visuals:
        opening, closing = given.get("wrap", {}).get(visual.kind, (before, after))
        pieces.append(f"{opening}{marks[visual.kind]}{closing}")
    text = "see" + between.join(pieces) + "what?"
    if given.get("only_videos"):  # the prompt has no marker: the processor puts its only video in front
        found = reader(text="what?", images=[v.pixels for v in visuals], return_tensors="pt")
        return _accepted(name, model, found)
    shown: dict[str, Any] = {**given.get("call", {})}
    images = [visual.pixels[0] for visual in visuals if visual.kind == "image"]
    clips = [visual.pixels for visual in visuals if visual.kind == "video"]
    if images:
        shown["images"] = _pillow(images) if given.get("pillow") else images
    if clips:
        shown["videos"] = clips
        shown["video_metadata"] = [_metadata(pixels, rate) for pixels in clips]
        shown["do_sample_frames"] = sample
        shown |= call
    problem: Exception | None = None
    for wrap in (lambda value: value, lambda value: [value]):
        nested = {key: wrap(value) if key in ("images", "videos") else value for key, value in shown.items()}
        try:
            return _accepted(name, model, reader(text=[text], return_tensors="pt", **nested))
        except Exception as error:
            problem = problem or error
    raise problem or ValueError("no way to call the processor")


def _pillow(images: Sequence[Any]) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(pixels) for pixels in images]


def marker(name: str, reader: Any, kind: str) -> str:
    if kind in OPTIONS.get(name, {}).get("marks", {}):
        return OPTIONS[name]["marks"][kind]
    names = ("video_token",) if kind == "video" else IMAGE_NAMES
    for attribute in names[1:] + names[:1] if name in BOI_FIRST else names:
        for holder in (reader, reader.tokenizer):
            token = getattr(holder, attribute, None)
            token = getattr(token, "content", token)
            if isinstance(token, str):
                return token
    return ""


def _accepted(name: str, model: Any, found: Any) -> dict[str, Any]:
    """What the model takes of `found`, and the token types that some models need and some processors leave out."""
    takes = inspect.signature(type(model).forward).parameters
    kept = {key: value for key, value in found.items() if isinstance(value, (torch.Tensor, list)) and key in takes}
    if "mm_token_type_ids" in takes and "mm_token_type_ids" not in kept:
        ids = torch.as_tensor(kept["input_ids"])
        image, video = image_token(model.config), video_token(model.config)
        kept["mm_token_type_ids"] = (ids == (-1 if image is None else image)).long()
        if video is not None:
            kept["mm_token_type_ids"][ids == video] = VIDEO_TYPE
    return kept


def _metadata(pixels: Any, rate: float) -> Any:
    from transformers.video_utils import VideoMetadata

    frames, height, width = pixels.shape[:3]
    return VideoMetadata(
        total_num_frames=frames,
        fps=rate,
        width=width,
        height=height,
        duration=frames / rate,
        frames_indices=list(range(frames)),
    )
