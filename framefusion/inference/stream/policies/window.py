"""The latest tokens alone: the control that forgets everything else."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from framefusion.inference.stream.policies.policy import Entries, Kept, Policy


@dataclass(frozen=True)
class Window(Policy):
    """Keeps the latest entries, whatever they are. The same for windows of any number of frames."""

    def keep(self, entries: Entries, budget: int) -> Kept:
        index = torch.arange(entries.count, device=entries.keys.device)
        stays = (index < entries.protected) | (index >= entries.count - (budget - entries.protected))
        return Kept(index[stays][None])
