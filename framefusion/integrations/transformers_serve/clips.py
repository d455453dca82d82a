"""Videos of a request: a question about one becomes the prompt that `framefusion run` makes of it."""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import PromptError

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video.limits import Resize

# What the server says with every prompt; anything else is for the template, which then writes the prompt.
USUAL = {"add_generation_prompt", "tools", "return_tensors", "return_dict", "tokenize", "load_audio_from_video"}
SAMPLING = {"num_frames", "fps"}


def apply_template(
    checkpoint: Checkpoint, resize: Resize | None, stock: Any, messages: Sequence[Mapping[str, Any]], **options: Any
) -> Any:
    """Inputs of a model for the messages of a request.

    resize: as for `load_clip`. stock: the processor's own `apply_chat_template`. options: of that.

    Raises PromptError and what reading a video raises.
    """
    kinds = {part.get("type") for one in messages for part in _parts(one)}
    # Text alone is what a prompt asks its template for on the way.
    if kinds.isdisjoint({"video", "image"}) or not options.get("tokenize"):
        return stock(messages, **options)
    with ExitStack() as files:
        named = [{**one, "content": _named(one, files)} for one in messages]
        asked = _only_question(named, options)
        if asked is None:
            return stock(named, **options)
        from transformers import BatchFeature

        from framefusion.inference.answer.prompt import build_prompt
        from framefusion.inference.video import load_clip

        path, question = asked
        clip = load_clip(path, frames=options.get("num_frames"), fps=options.get("fps"), resize=resize)
        return BatchFeature(build_prompt(checkpoint, clip, question))


def _only_question(messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The file and the question of a prompt that is one video and what is asked about it."""
    if len(messages) != 1 or messages[0].get("role") != "user" or options.get("tools"):
        return None
    if set(options) - USUAL - SAMPLING:
        return None
    first, *others = _parts(messages[0])
    if first.get("type") != "video" or any(part.get("type") != "text" for part in others):
        return None
    return (first["url"], "".join(part["text"] for part in others)) if _is_file(first["url"]) else None


def _is_file(url: Any) -> bool:
    return isinstance(url, str) and not url.startswith(("http://", "https://"))


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _named(message: Mapping[str, Any], files: ExitStack) -> Any:
    """The content of a message with its pictures read, and its videos in files for as long as `files` is open."""
    content = message.get("content")
    return [_brought(part, files) for part in content] if isinstance(content, list) else content


def _brought(part: Mapping[str, Any], files: ExitStack) -> Mapping[str, Any]:
    url = part.get("url")
    if part.get("type") == "video" and str(url).startswith("data:"):
        return {**part, "url": files.enter_context(_written(str(url)))}
    if part.get("type") == "image" and url is not None:
        return {"type": "image", "image": _picture(url)}
    return part


def _picture(url: Any) -> Any:
    """A picture by its address, read by Pillow: torchvision's own decoder is not in every build."""
    from transformers.image_utils import load_image

    try:
        return load_image(url)
    except Exception as error:  # Pillow and transformers have many
        raise PromptError(
            "a picture of the request cannot be read",
            (str(error).splitlines() or [""])[0][:200],
            "send a PNG or JPEG file as data:image/png;base64,…",
        ) from None


@contextmanager
def _written(url: str) -> Iterator[str]:
    """A file with the bytes of a data address."""
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise PromptError("the video's data address is no base64", hint="write data:video/mp4;base64,…")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PromptError("the video's data address is no base64", str(error), "encode the whole file") from None
    handle, path = tempfile.mkstemp(suffix=".video")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        yield path
    finally:
        os.unlink(path)
