"""transformers' server in a process of its own, started by the command."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.serving.server import free_port

PATIENCE_S = 600


class Server:
    """words: behind `framefusion serve --engine transformers`."""

    def __init__(self, model: str, log: Path, *words: str) -> None:
        port = free_port()
        self.model, self.url, self.log = model, f"http://127.0.0.1:{port}", log
        head = [sys.executable, "-m", "framefusion", "serve", "--engine", "transformers", model]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*head, *words, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> Server:
        """Until it answers. Raises RuntimeError with the end of its log."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise RuntimeError(f"the server did not come up:\n{self.log.read_text()[-4000:]}")

    def body(self, content: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "messages": messages, "max_tokens": 12, "temperature": 0, **extra}

    def post(self, content: list[dict[str, Any]], **extra: Any) -> tuple[int, Any]:
        """Status and JSON of one request that no client looks at before the server."""
        data = json.dumps(self.body(content, **extra)).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ask(self, content: list[dict[str, Any]], stream: bool = False, **extra: Any) -> str:
        """What OpenAI's own client is answered. extra: fields that it does not know."""
        from openai import OpenAI

        body = self.body(content)
        client = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)
        answer: Any = client.chat.completions.create(**body, stream=stream, extra_body=extra or None)
        if not stream:
            return answer.choices[0].message.content or ""
        return "".join(part.choices[0].delta.content or "" for part in answer)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def video_of(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}}


def picture_of(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def text_of(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}
