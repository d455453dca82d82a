"""One engine in this process, with the positions that its language model was given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}

BLOCK = 32
QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"), QWEN_VIDEO),
    **dict.fromkeys(("llava_onevision", "llava_next_video", "internvl"), "<video>"),
    "glm4v": "<|begin_of_video|><|video|><|end_of_video|>",
    "minicpmv4_6": "<|video_pad|>",
}
IMAGE = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"), QWEN_IMAGE),
    **dict.fromkeys(("llava_onevision", "llava", "llava_next", "idefics3"), "<image>"),
    "internvl": "<IMG_CONTEXT>",
    "gemma3": "<start_of_image>",
    "glm4v": "<|begin_of_image|><|image|><|end_of_image|>",
    "minicpmv4_6": "<|image_pad|>",
}
TAKES_METADATA = ("qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v")
CLASS_TOKEN = ("internvl", "llava_next_video")
"""Their towers put one in front of every picture."""


@dataclass(frozen=True)
class Answer:
    """What the engine said. prompt, tokens: ids. scores: log-probability of each token. seen: (3 or 1, n) positions."""

    prompt: list[int]
    tokens: list[int]
    scores: list[float]


class Engine:
    """settings: `visual_reduction`, None for the stock engine."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any] | None = None, **options: Any) -> None:
        from vllm import LLM

        self.name = name
        overrides = {} if settings is None else {"hf_overrides": {"visual_reduction": settings}}
        small: dict[str, Any] = {
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 1024,
            "max_num_batched_tokens": 1024,
            "max_num_seqs": 8,
            "block_size": BLOCK,
            "enable_chunked_prefill": True,
            "seed": 0,
            "limit_mm_per_prompt": {"video": 2, "image": 2},
        }
        self.llm = LLM(str(folder), **{**small, **overrides, **options})
        self.positions: list[torch.Tensor] = []
        self.model.register_forward_pre_hook(self._watch, with_kwargs=True)

    @property
    def model(self) -> Any:
        return self.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.model

    @contextmanager
    def stock(self) -> Iterator[None]:
        """Inside, the classes of the plugin do nothing of their own: what runs is vLLM's."""
        config = self.llm.llm_engine.vllm_config.model_config.hf_config
        settings = config.visual_reduction
        self.forget()
        config.visual_reduction, self.model.reduces = None, False
        try:
            yield
        finally:
            config.visual_reduction, self.model.reduces = settings, True
            self.forget()

    @contextmanager
    def chunks_of(self, tokens: int) -> Iterator[None]:
        """Inside, a step of the engine reads at most that many tokens."""
        scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        before, scheduler.max_num_scheduled_tokens = scheduler.max_num_scheduled_tokens, tokens
        try:
            yield
        finally:
            scheduler.max_num_scheduled_tokens = before

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()

    def forget(self) -> None:
        """Empty all caches: the settings of an engine are no part of their keys."""
        self.llm.reset_prefix_cache()
        self.llm.llm_engine.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def _watch(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        positions = kwargs.get("positions", args[1] if len(args) > 1 else None)
        self.positions.append(positions.detach().clone())

    def request(self, text: str, videos: list[np.ndarray], images: list[Any] = [], **kwargs: Any) -> dict[str, Any]:  # noqa: B006
        """text: with {v} where a video and {i} where an image stands."""
        from tests.serving.clips import with_metadata

        clips = [with_metadata(clip) if self.name in TAKES_METADATA else clip for clip in videos]
        data = {key: value for key, value in (("video", clips), ("image", images)) if value}
        prompt = text.replace("{v}", VIDEO.get(self.name, "{v}")).replace("{i}", IMAGE.get(self.name, "{i}"))
        extra = {"mm_processor_kwargs": {"visual_reduction": kwargs}} if kwargs else {}
        return {"prompt": prompt, "multi_modal_data": data, **extra}

    def ask(self, *requests: dict[str, Any], tokens: int = 6, fresh: bool = True) -> list[Answer]:
        """Greedy answers; `fresh` forgets the cached prefixes first."""
        from vllm import SamplingParams

        if fresh:
            self.llm.reset_prefix_cache()
        self.positions.clear()
        greedy = SamplingParams(temperature=0.0, max_tokens=tokens, logprobs=0, ignore_eos=True)
        outputs = self.llm.generate(list(requests), greedy, use_tqdm=False)
        return [_answer(output) for output in outputs]


class OneEngine:
    """The one engine of this process; another one takes its place."""

    def __init__(self, checkpoints: dict[str, Path]) -> None:
        self.checkpoints = checkpoints
        self._running: Engine | None = None
        self._known: tuple[str, dict[str, Any]] | None = None

    def of(self, name: str, settings: dict[str, Any], **options: Any) -> Engine:
        if self._running is None or self._known != (name, settings):
            self.close()
            self._running = Engine(name, self.checkpoints[name], settings, **options)
            self._known = (name, settings)
        return self._running

    def close(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        if self._running is not None:
            self._running.close()
            self._running = None
            cleanup_dist_env_and_memory()


def _answer(output: Any) -> Answer:
    (said,) = output.outputs
    scores = [step[token].logprob for token, step in zip(said.token_ids, said.logprobs, strict=True)]
    return Answer(list(output.prompt_token_ids), list(said.token_ids), scores)
