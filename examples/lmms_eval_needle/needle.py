"""What lmms-eval does with a row of needle.jsonl."""

from __future__ import annotations

import re
from typing import Any

LETTERS = "ABCDEF"


def visual(doc: dict[str, Any]) -> list[str]:
    return [doc["video"]]


def question(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, doc["choices"], strict=False))
    return f"{doc['question']}\n{choices}\nAnswer with the option's letter from the given choices directly."


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """1.0 if the first letter that stands alone is the right one."""
    found = re.search(rf"\b([{LETTERS}])\b", results[0])
    return {"needle_accuracy": float(found is not None and found[1] == doc["answer"])}
