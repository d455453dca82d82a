"""Muon for the matrices inside, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

MUON_RATE, ADAM_RATE, DECAY = 0.02, 2e-3, 0.01


class Optimiser:
    """Two optimisers stepped together, their learning rates scaled by one factor."""

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], scale: float = 1.0) -> None:
        matrices, others = [], []
        for name, weight in named:
            inside = weight.ndim == 2 and not any(word in name for word in ("embed", "head", "linear"))
            (matrices if inside else others).append(weight)
        self.weights = [*matrices, *others]
        self.parts: list[Any] = [
            torch.optim.Muon(matrices, lr=MUON_RATE * scale, weight_decay=DECAY, momentum=0.95),
            torch.optim.AdamW(others, lr=ADAM_RATE * scale, weight_decay=DECAY, betas=(0.9, 0.98), fused=True),
        ]
        self.rates = [part.param_groups[0]["lr"] for part in self.parts]

    def step(self, loss: torch.Tensor, factor: float) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for part, rate in zip(self.parts, self.rates, strict=True):
            part.param_groups[0]["lr"] = rate * factor
            part.step()
            part.zero_grad()

    def state_dict(self) -> list[Any]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[Any]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
