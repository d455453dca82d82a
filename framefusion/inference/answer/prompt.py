"""Turn a clip and a question into the inputs of a model, through its own processor and chat template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import CheckpointError, PromptError
from framefusion.inference.answer.foreign import reason_of
from framefusion.inference.answer.moments import clips_to_try, correct_spacing, video_options
from framefusion.inference.answer.objection import objection
from framefusion.models.placeholders import image_token, placeholder_ids, video_token

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip

VISION_MARKS = ("<|vision_start|>", "<|vision_end|>")
PICTURE_TOKENS = ("image_token", "video_token", "boi_token", "eoi_token", "fake_image_token")
IMAGE_TYPE, VIDEO_TYPE = 1, 2


def build_prompt(checkpoint: Checkpoint, clip: Clip, question: str) -> dict[str, Any]:
    """Model inputs for one prompt, on the model's device; families without video input get the frames as images.

    Raises PromptError for a clip or a question that the processor does not accept, CheckpointError for a processor or a
    chat template that accepts none, and for a model whose own code makes its prompts.
    """
    processor = checkpoint.processor
    if not hasattr(processor, "tokenizer") or not placeholder_ids(checkpoint.model.config):
        raise CheckpointError(
            f"no prompt can be built for {checkpoint.name}",
            "its own code puts prompts together, behind a call such as `model.chat`",
            "use it from Python, within `framefusion.reduce`; docs/examples.md shows how",
        )
    _check_question(checkpoint, question)
    inputs, problem = _processed(checkpoint, clip, question)
    if problem is not None:
        name = type(processor).__name__
        raise objection(name, clip, question, problem, lambda *given: _processed(checkpoint, *given)[1]) from problem
    return _complete(checkpoint.model, inputs)


def _check_question(checkpoint: Checkpoint, question: str) -> None:
    """Halves of letters, and words that a processor would replace by pictures. Raises PromptError."""
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise PromptError("the question is no UTF-8", "no tokenizer can read it", "write it anew") from error
    holders = (checkpoint.processor, checkpoint.processor.tokenizer)
    tokens = [getattr(holder, name, None) for holder in holders for name in PICTURE_TOKENS]
    named = next((token for token in tokens if isinstance(token, str) and token and token in question), None)
    if named is not None:
        raise PromptError(
            f"the question holds `{named}`",
            f"{type(checkpoint.processor).__name__} takes that for the place of a picture",
            "write it in other words",
        )


def _processed(checkpoint: Checkpoint, clip: Clip, question: str) -> tuple[Any, Exception | None]:
    """What the processor makes of a prompt, and what it raised where it makes nothing of it."""
    processor = checkpoint.processor
    as_video = takes_video(checkpoint)
    kind, count = ("video", 1) if as_video else ("image", len(clip.frames))
    # LLaVA-Video is told when its frames were taken.
    introduce = getattr(processor, "introduce", None) if as_video else None
    text = render(processor, kind, count, introduce(clip) + question if introduce else question)
    problem: Exception | None = None
    for visuals, shown in _ways(checkpoint, clip, as_video):
        try:
            inputs = processor(text=[text], return_tensors="pt", **visuals)
        except Exception as error:  # processors have no error of their own
            problem = problem or error
            continue
        correct_spacing(inputs, shown, processor)
        return inputs, None
    return None, problem


def _ways(checkpoint: Checkpoint, clip: Clip, as_video: bool) -> Iterator[tuple[dict[str, Any], Clip]]:
    """The clip as processors take it: most want a flat list, some (SmolVLM, Gemma) one list per prompt."""
    for shown in clips_to_try(clip, checkpoint.processor) if as_video else (clip,):
        for wrap in (lambda visuals: visuals, lambda visuals: [visuals]):
            if as_video:
                options = video_options(shown, checkpoint.model.config.model_type)
                yield {"videos": wrap([shown.frames]), **options}, shown
            else:
                yield {"images": wrap(_images(shown))}, shown


def takes_video(checkpoint: Checkpoint) -> bool:
    return getattr(checkpoint.processor, "video_processor", None) is not None and not checkpoint.family.video_as_images


def render(processor: Any, kind: str, count: int, question: str) -> str:
    """The prompt's text with `count` placeholders of `kind` ("video" or "image") before the question."""
    content = [{"type": kind}] * count + [{"type": "text", "text": question}]
    placeholder = _placeholder(processor, kind)
    if getattr(processor, "chat_template", None):
        messages = [{"role": "user", "content": content}]
        try:
            text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program, and raises what it likes
            raise CheckpointError(
                "the chat template of the checkpoint fails",
                reason_of(error),
                "fetch the checkpoint again, or take the template out of its folder to do without",
            ) from error
        if placeholder is None or text.count(placeholder) >= count:
            return text
    if placeholder is None:
        raise CheckpointError(
            f"{type(processor).__name__} names no {kind} placeholder",
            "and it has no chat template that would write one",
            "the files of the checkpoint's processor are incomplete; fetch the checkpoint again",
        )
    vocabulary = processor.tokenizer.get_vocab()
    if all(mark in vocabulary for mark in VISION_MARKS):
        placeholder = f"{VISION_MARKS[0]}{placeholder}{VISION_MARKS[1]}"
    return placeholder * count + f"\n{question}\n"


def _placeholder(processor: Any, kind: str) -> str | None:
    """What a processor looks for in the text; Gemma marks an image by its opening token."""
    names = ("video_token",) if kind == "video" else ("boi_token", "image_token", "fake_image_token")
    for holder in (processor, processor.tokenizer):
        for name in names:
            token = getattr(holder, name, None)
            if isinstance(token, str):
                return token
    return None


def _images(clip: Clip) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in clip.frames]


def _complete(model: Any, inputs: Any) -> dict[str, Any]:
    """Move to the model's device and dtype, and add the token types M-RoPE needs where a processor leaves them out."""
    import inspect

    import torch

    moved = {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor)
    }
    accepted = inspect.signature(type(model).forward).parameters
    if "mm_token_type_ids" in accepted and "mm_token_type_ids" not in moved:
        ids, types = moved["input_ids"], torch.zeros_like(moved["input_ids"])
        types[ids == image_token(model.config)] = IMAGE_TYPE
        if video_token(model.config) is not None:
            types[ids == video_token(model.config)] = VIDEO_TYPE
        moved["mm_token_type_ids"] = types
    if not any(bool((moved["input_ids"] == token).any()) for token in placeholder_ids(model.config)):
        raise CheckpointError(
            "the prompt holds no visual tokens",
            "the processor wrote no placeholder that the model's configuration names",
            "the processor is that of another model, or a placeholder's id in config.json is wrong",
        )
    return moved
