"""A server in a process of its own, and a client that shows it a video file."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    data = base64.b64encode(file.read_bytes()).decode()
    kind, media = ("image_url", "image/png") if file.suffix == ".png" else ("video_url", "video/mp4")
    return [
        {"type": kind, kind: {"url": f"data:{media};base64,{data}"}},
        {"type": "text", "text": question},
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """words: the command; environment: added to this process's."""

    def __init__(self, words: Sequence[str], log: Path, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = log
        port = self.url.rpartition(":")[2]
        inherited = {key: value for key, value in os.environ.items() if key != "VLLM_ENABLE_V1_MULTIPROCESSING"}
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*words, "--host", "127.0.0.1", "--port", port, *OPTIONS],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **environment},
            )

    def wait(self) -> Server:
        """Until it answers. Raises RuntimeError with the end of its log if it gives up or takes too long."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        raise RuntimeError(f"the server did not come up:\n{self.log.read_text()[-4000:]}")

    def post(self, content: list[dict[str, Any]], **extra: Any) -> tuple[int, str]:
        """Status and body of one request as it is written here: no client looks at its values before the server."""
        body = {"model": SERVED_AS, "messages": [{"role": "user", "content": content}], "max_tokens": 1, **extra}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ask(self, file: Path, question: str, **extra: Any) -> Any:
        """The answer of OpenAI's own client about a video or picture file."""
        from openai import OpenAI

        content = content_of(file, question)
        client = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=600)
        return client.chat.completions.create(
            model=SERVED_AS,
            messages=[{"role": "user", "content": content}],
            max_tokens=4,
            temperature=0,
            extra_body=extra or None,
        )

    def visual_tokens(self) -> dict[str, float]:
        """Stage -> count, of the page of metrics; empty where nothing was counted."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            page = answer.read().decode()
        return {stage: float(count) for stage, count in re.findall(COUNTER, page)}

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
