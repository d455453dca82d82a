"""vLLM's server in a process of its own, and a client that shows it a video file."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.served import ServedModel, part_of, text_of

SERVED_AS = "tiny"
# Loading vLLM takes seconds on an idle machine and minutes on a busy one.
PATIENCE_S = 1500
COUNTER = r'framefusion_visual_tokens_total{stage="(\w+)"} (\S+)'
OPTIONS = (
    *("--served-model-name", SERVED_AS, "--max-model-len", "1024", "--max-num-seqs", "4", "--enforce-eager"),
    *("--dtype", "float32", "--media-io-kwargs", '{"video": {"num_frames": 8}}', "--trust-request-mm-kwargs"),
    "--enable-prompt-tokens-details",
)


def content_of(file: Path, question: str) -> list[dict[str, Any]]:
    """file: a video, or a picture in PNG."""
    return [part_of("image_url" if file.suffix == ".png" else "video_url", file), text_of(question)]


class Server(ServedModel):
    """words: the command; environment: added to this process's."""

    def __init__(self, words: Sequence[str], log: Path, **environment: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if key != "VLLM_ENABLE_V1_MULTIPROCESSING"}
        usual = {"model": SERVED_AS, "max_tokens": 4, "temperature": 0}
        super().__init__([*words, *OPTIONS], log, usual, PATIENCE_S, {**inherited, **environment})

    def ask(self, file: Path, question: str, **extra: Any) -> Any:
        """The answer about a video or picture file."""
        return self.completion(content_of(file, question), **extra)

    def visual_tokens(self) -> dict[str, float]:
        """Stage -> count, of the page of metrics; empty where nothing was counted."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            page = answer.read().decode()
        return {stage: float(count) for stage, count in re.findall(COUNTER, page)}
