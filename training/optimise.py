"""Muon for the matrices inside, AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

MUON_RATE, ADAM_RATE, DECAY = 0.02, 2e-3, 0.01


class Optimiser:
    """Two optimisers stepped together. `scale` gives the factor on the learning rates of each weight by its name."""

    def __init__(
        self, named: Iterable[tuple[str, torch.nn.Parameter]], scale: Callable[[str], float] = lambda name: 1.0
    ) -> None:
        matrices: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
        others: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
        for name, weight in named:
            inside = weight.ndim == 2 and not any(word in name for word in ("embed", "head", "linear"))
            (matrices if inside else others)[scale(name)].append(weight)
        self.weights = [weight for kind in (matrices, others) for part in kind.values() for weight in part]
        self.parts: list[Any] = [
            torch.optim.Muon(_groups(matrices, MUON_RATE), weight_decay=DECAY, momentum=0.95),
            torch.optim.AdamW(_groups(others, ADAM_RATE), weight_decay=DECAY, betas=(0.9, 0.98), fused=True),
        ]
        self.rates = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def step(self, loss: torch.Tensor, factor: float) -> None:
        loss.backward()
        with one_thread():
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            for part, rates in zip(self.parts, self.rates, strict=True):
                for group, rate in zip(part.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                part.step()
                part.zero_grad()

    def state_dict(self) -> list[Any]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[Any]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices this small are multiplied sooner than a second thread is awake: a quarter of the time of two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _groups(weights: dict[float, list[torch.nn.Parameter]], rate: float) -> list[dict[str, Any]]:
    return [{"params": part, "lr": rate * scale} for scale, part in weights.items()]
