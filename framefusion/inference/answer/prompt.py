"""Turn media and a question into the inputs of a model, through its own processor and chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import CheckpointError, PromptError
from framefusion.inference.answer.foreign import reason_of
from framefusion.inference.answer.moments import clips_to_try, correct_spacing, video_options
from framefusion.inference.answer.objection import Media, objection
from framefusion.inference.answer.quiet import without_chatter
from framefusion.models.placeholders import image_token, placeholder_ids, video_token

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip

VISION_MARKS = ("<|vision_start|>", "<|vision_end|>")
PICTURE_TOKENS = ("image_token", "video_token", "boi_token", "eoi_token", "fake_image_token")
IMAGE, VIDEO, PIXELS = "image", "video", "pixel_values"
IMAGE_TYPE, VIDEO_TYPE = 1, 2


class Prompt(dict[str, Any]):
    """Model inputs by name. pictures_are_frames: the pictures among them are the frames of a clip."""

    pictures_are_frames: bool = False


def build_prompt(checkpoint: Checkpoint, media: Clip | Sequence[Clip], question: str) -> Prompt:
    """Model inputs for one prompt, on the model's device.

    media: clips and still pictures, shown in this order before the question. Families without video input get the
    frames of a clip as images, and then one clip alone: nothing would tell its frames from other pictures.

    Raises PromptError for media or a question that the processor does not accept, CheckpointError for a processor or a
    chat template that accepts none, and for a model whose own code makes its prompts.
    """
    processor, shown = checkpoint.processor, as_media(media)
    if not hasattr(processor, "tokenizer") or not placeholder_ids(checkpoint.model.config):
        raise CheckpointError(
            f"no prompt can be built for {checkpoint.name}",
            "its own code puts prompts together, behind a call such as `model.chat`",
            "use it from Python, within `framefusion.reduce`; docs/examples.md shows how",
        )
    _check_question(checkpoint, question)
    _check_media(checkpoint, shown)
    inputs, problem = processed(checkpoint, shown, question)
    if problem is not None:
        name = type(processor).__name__
        raise objection(name, shown, question, problem, lambda *given: processed(checkpoint, *given)[1]) from problem
    prompt = Prompt(_complete(checkpoint.model, inputs))
    prompt.pictures_are_frames = not takes_video(checkpoint) and not all(clip.still for clip in shown)
    return prompt


def as_media(media: Clip | Sequence[Clip]) -> Media:
    """One clip, or several, as a tuple."""
    from framefusion.inference.video import Clip

    return (media,) if isinstance(media, Clip) else tuple(media)


def _check_media(checkpoint: Checkpoint, media: Media) -> None:
    if not media:
        raise PromptError("there is nothing to ask about", hint="name a picture or a video")
    if len(media) > 1 and not takes_video(checkpoint) and not all(clip.still for clip in media):
        raise PromptError(
            f"a clip can only be asked about alone with {checkpoint.name}",
            "the model has no video input, and would take its frames and the other media for one clip",
            "ask about them one after the other, or about pictures only",
        )
    processor = checkpoint.processor
    if takes_video(checkpoint) and takes_images(checkpoint) and len({clip.still for clip in media}) > 1:
        named = [getattr(processor, part).model_input_names for part in ("image_processor", "video_processor")]
        if PIXELS in named[0] and PIXELS in named[1]:
            # SmolVLM's, up to transformers 5.24, keeps the pixels of the clip and loses those of the pictures.
            raise PromptError(
                f"{type(processor).__name__} takes no pictures beside a clip",
                f"it names the pixels of both `{PIXELS}`, so one would replace the other",
                "ask about the pictures and the clip one after the other",
            )


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


def processed(checkpoint: Checkpoint, media: Media, question: str) -> tuple[Any, Exception | None]:
    """What the processor makes of a prompt, and what it raised where it makes nothing of it."""
    processor = checkpoint.processor
    kinds = [kind for clip in media for kind in _kinds(checkpoint, clip)]
    # LLaVA-Video is told when its frames were taken.
    introduce = getattr(processor, "introduce", None)
    introduced = [introduce(clip) for clip in media if introduce and not clip.still]
    text = render(processor, kinds, "".join(introduced) + question)
    problem: Exception | None = None
    for visuals, shown in _ways(checkpoint, media):
        try:
            with without_chatter():
                inputs = processor(text=[text], return_tensors="pt", **visuals)
        except Exception as error:  # processors have no error of their own
            problem = problem or error
            continue
        correct_spacing(inputs, shown, processor)
        return inputs, None
    return None, problem


def _kinds(checkpoint: Checkpoint, clip: Clip) -> list[str]:
    """The placeholders a clip or picture has: one, or an image for each frame."""
    if not takes_video(checkpoint):
        return [IMAGE] * len(clip.frames)
    return [IMAGE] if clip.still and takes_images(checkpoint) else [VIDEO]


def _ways(checkpoint: Checkpoint, media: Media) -> Iterator[tuple[dict[str, Any], Media]]:
    """The media as processors take them, and the videos among them.

    Most processors want a flat list, some (SmolVLM, Gemma) one list per prompt.
    """
    videos = tuple(clip for clip in media if _kinds(checkpoint, clip) == [VIDEO])
    images = _images([clip for clip in media if _kinds(checkpoint, clip) != [VIDEO]])
    for shown in clips_to_try(videos, checkpoint.processor):
        for wrap in (lambda visuals: visuals, lambda visuals: [visuals]):
            given: dict[str, Any] = {"images": wrap(images)} if images else {}
            if shown:
                options = video_options(shown, checkpoint.model.config.model_type)
                given |= {"videos": wrap([clip.frames for clip in shown]), **options}
            yield given, shown


def takes_video(checkpoint: Checkpoint) -> bool:
    return getattr(checkpoint.processor, "video_processor", None) is not None and not checkpoint.family.video_as_images


def takes_images(checkpoint: Checkpoint) -> bool:
    """Whether the processor reads pictures; those of a few families know videos only."""
    return getattr(checkpoint.processor, "image_processor", None) is not None


def render(processor: Any, kinds: Sequence[str], question: str) -> str:
    """The prompt's text with a placeholder for each of `kinds` (VIDEO or IMAGE) before the question."""
    content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": question}]
    placeholders = {kind: _placeholder(processor, kind) for kind in dict.fromkeys(kinds)}
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
        if all(word is None or text.count(word) >= kinds.count(kind) for kind, word in placeholders.items()):
            return text
    unnamed = next((kind for kind, word in placeholders.items() if word is None), None)
    if unnamed is not None:
        raise CheckpointError(
            f"{type(processor).__name__} names no {unnamed} placeholder",
            "and it has no chat template that would write one",
            "the files of the checkpoint's processor are incomplete; fetch the checkpoint again",
        )
    vocabulary = processor.tokenizer.get_vocab()
    before, behind = VISION_MARKS if all(mark in vocabulary for mark in VISION_MARKS) else ("", "")
    return "".join(f"{before}{placeholders[kind]}{behind}" for kind in kinds) + f"\n{question}\n"


def _placeholder(processor: Any, kind: str) -> str | None:
    """What a processor looks for in the text; Gemma marks an image by its opening token."""
    names = ("video_token",) if kind == VIDEO else ("boi_token", "image_token", "fake_image_token")
    for holder in (processor, processor.tokenizer):
        for name in names:
            token = getattr(holder, name, None)
            if isinstance(token, str):
                return token
    return None


def _images(media: Sequence[Clip]) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(frame) for clip in media for frame in clip.frames]


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
