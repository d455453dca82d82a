"""One forward pass over a prompt, for those who only want to watch it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn


def prefill(model: nn.Module, prompt: Mapping[str, Any]) -> None:
    """Run `model` over a prompt without gradients, cache or, where it lets one choose, logits of more than one token.

    prompt: what the processor returns.
    """
    known = inspect.signature(model.forward).parameters
    spared = {"logits_to_keep": 1, "use_cache": False}
    with torch.no_grad():
        model(**prompt, **{name: value for name, value in spared.items() if name in known and name not in prompt})
