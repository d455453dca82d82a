"""An OpenAI-compatible server in a process of its own, and what clients send it."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

TYPES = {"video_url": "video/mp4", "image_url": "image/png"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def part_of(kind: str, path: Path) -> dict[str, Any]:
    """A file as a part of a message. kind: "video_url" or "image_url"."""
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": kind, kind: {"url": f"data:{TYPES[kind]};base64,{data}"}}


def text_of(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


class ServedModel:
    """words: the command, to which address and port are added. usual: what every request says unless told otherwise.

    patience: seconds that starting or answering may take. environment: of the process, None for that of this one.
    port: a free one if 0.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        usual: Mapping[str, Any],
        patience: float,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        port = port or free_port()
        self.url, self.log, self.usual, self.patience = f"http://127.0.0.1:{port}", log, dict(usual), patience
        command = [*words, "--host", "127.0.0.1", "--port", str(port)]
        with log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def wait(self) -> Self:
        """Until it answers. Raises RuntimeError with the end of its log if it gives up or takes too long."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return self
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the server did not come up:\n{self.log.read_text()[-4000:]}")

    def body(self, content: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {**self.usual, "messages": [{"role": "user", "content": content}], **more}

    def post(self, content: list[dict[str, Any]], **more: Any) -> tuple[int, str]:
        """Status and body of one request as it is written here: no client looks at its values before the server."""
        data, headers = json.dumps(self.body(content, **more)).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.patience) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def completion(self, content: list[dict[str, Any]], stream: bool = False, **extra: Any) -> Any:
        """What OpenAI's own client is answered. extra: fields that it does not know."""
        from openai import OpenAI

        client = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=self.patience)
        return client.chat.completions.create(**self.body(content), stream=stream, extra_body=extra or None)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
