"""A model class for lmms-eval over every checkpoint that `load_checkpoint` opens, LLaVA-Video among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from tqdm import tqdm

from framefusion.core.errors import OptionError, PromptError
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import Clip, load_clip

# What a task that says nothing gets, as in lmms-eval's own wrappers of this kind.
MAX_NEW_TOKENS = 1024


class AnyCheckpoint(lmms):
    """Answers prompts of one video, or of pictures of one size taken as the frames of one, followed by text.

    frames: read evenly over the video. fps: frames per second instead, at most `frames` of them. max_side: shrink
    frames whose longer side has more pixels. device, dtype, attn_implementation: as `load_checkpoint` takes them.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        frames: int = 64,
        fps: float | None = None,
        max_side: int | None = None,
        dtype: str = "auto",
        device: str | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int | str = 1,
    ) -> None:
        super().__init__()
        if int(batch_size) != 1:
            raise OptionError(f"batch_size={batch_size} is not possible here", "videos are read one prompt at a time")
        self.frames, self.fps, self.max_side = int(frames), fps, max_side
        device = self._spread(device)
        self.checkpoint = load_checkpoint(pretrained, dtype, device, attn_implementation, trust_remote_code)
        self._last: tuple[str, Clip] | None = None

    def _spread(self, device: str | None) -> str | None:
        """Under `accelerate launch` every process has a model of its own and a share of the requests."""
        from accelerate import Accelerator

        accelerator = Accelerator()
        if accelerator.num_processes == 1:
            return device
        self.accelerator = accelerator
        self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        return str(accelerator.device)

    @property
    def model(self) -> Any:
        return self.checkpoint.model

    @property
    def config(self) -> Any:
        return self.checkpoint.model.config

    @property
    def tokenizer(self) -> Any:
        return self.checkpoint.processor.tokenizer

    @property
    def device(self) -> Any:
        return self.checkpoint.model.device

    @property
    def batch_size(self) -> int:
        return 1

    def generate_until(self, requests: list[Any]) -> list[Any]:
        answers = []
        for request in tqdm(requests, disable=self.rank != 0, desc="Model Responding"):
            context, doc_to_messages, options, doc, task, split = request.args
            messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc]))
            answer = self._answer(messages, options)
            self.cache_hook.add_partial("generate_until", (context, options), answer.text)
            answers.append(answer)
        return answers

    def _answer(self, messages: Any, options: dict[str, Any]) -> Any:
        clip, question = self._read(messages)
        inputs = build_prompt(self.checkpoint, clip, question)
        with torch.no_grad():
            output = self.model.generate(**inputs, **generation(options))
        new = output[0, inputs["input_ids"].shape[1] :]
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        until = options.get("until") or []
        for end in [until] if isinstance(until, str) else until:
            text = text.split(end)[0] if end.strip() else text
        return GenerationResult(text=text.strip(), token_counts=TokenCounts(output_tokens=len(new)))

    def _read(self, messages: Any) -> tuple[Clip, str]:
        parts = [part for message in messages.messages for part in message.content]
        words = [part.text for part in parts if part.type == "text"]
        videos = [part for part in parts if part.type == "video"]
        pictures = [part.url for part in parts if part.type == "image"]
        if len(videos) == 1 and not pictures:
            return self._clip(videos[0]), "\n".join(words)
        if pictures and not videos:
            return frames_of(pictures), "\n".join(words)
        raise PromptError(
            f"a prompt with {len(videos)} videos and {len(pictures)} pictures",
            "this class answers about one video, or about pictures that are frames of one",
            "take the wrapper of the model's own family",
        )

    def _clip(self, part: Any) -> Clip:
        if part.start_time is not None or part.end_time is not None:
            raise PromptError("a task that asks about a part of a video", "whole files are read here")
        path = str(part.url)
        if self._last is None or self._last[0] != path:  # benchmarks ask several questions about a video
            self._last = (path, load_clip(path, frames=self.frames, fps=self.fps, max_side=self.max_side))
        return self._last[1]

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError("this class generates; take the wrapper of the model's own family")

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError("this class answers one round; take the wrapper of the model's own family")


def frames_of(pictures: list[Any]) -> Clip:
    """PIL pictures of one size as a clip of one frame per second."""
    frames = [np.asarray(picture.convert("RGB")) for picture in pictures]
    if len({frame.shape for frame in frames}) > 1:
        raise PromptError("pictures of different sizes", "they cannot be the frames of one video")
    return Clip(
        frames=np.stack(frames),
        timestamps=tuple(float(second) for second in range(len(frames))),
        fps=1.0,
        duration=float(len(frames)),
        total_frames=len(frames),
        source="pictures",
        indices=tuple(range(len(frames))),
    )


def generation(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `generate` from a task's `generation_kwargs`."""
    known = {key: options[key] for key in ("max_new_tokens", "num_beams") if options.get(key) is not None}
    sampled = float(options.get("temperature") or 0.0) > 0
    if sampled:
        known |= {key: options[key] for key in ("temperature", "top_p", "top_k") if options.get(key) is not None}
    return {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": sampled} | known
