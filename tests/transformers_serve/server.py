"""transformers' server in a process of its own, started by the command."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.served import ServedModel, part_of

PATIENCE_S = 600
COUNTER = r'framefusion_visual_tokens_total{stage="(\w+)"} (\d+)'


class Server(ServedModel):
    """words: behind `framefusion serve --engine transformers`."""

    def __init__(self, model: str, log: Path, *words: str) -> None:
        head = [sys.executable, "-m", "framefusion", "serve", "--engine", "transformers", model]
        usual = {"model": model, "max_tokens": 12, "temperature": 0}
        super().__init__([*head, *words, "--device", "cpu"], log, usual, PATIENCE_S)

    def post_json(self, content: list[dict[str, Any]], **extra: Any) -> tuple[int, Any]:
        """As `post`, its body read."""
        status, body = self.post(content, **extra)
        return status, json.loads(body)

    def visual_tokens(self) -> dict[str, int]:
        """Stage -> count, of the page of metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            page = answer.read().decode()
        return {stage: int(count) for stage, count in re.findall(COUNTER, page)}

    def ask(self, content: list[dict[str, Any]], stream: bool = False, **extra: Any) -> str:
        """The text of the answer."""
        answer = self.completion(content, stream, **extra)
        if not stream:
            return answer.choices[0].message.content or ""
        return "".join(part.choices[0].delta.content or "" for part in answer)


def video_of(path: Path) -> dict[str, Any]:
    return part_of("video_url", path)


def picture_of(path: Path) -> dict[str, Any]:
    return part_of("image_url", path)
