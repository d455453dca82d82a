"""An answer handed on piece by piece while it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Listener = Callable[[str, bool], None]
"""Called with each piece of the answer, and with whether it is the last one."""


def streamer_to(listener: Listener, tokenizer: Any) -> Any:
    """For the argument `streamer` of `generate`; the pieces are whole words."""
    from transformers import TextStreamer

    class ToListener(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            listener(text, stream_end)

    return ToListener(tokenizer, skip_prompt=True, skip_special_tokens=True)
