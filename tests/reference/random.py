"""Random, plainly: shuffle the numbers of a clip's patches with the seed and keep the first ones, in reading order."""

from __future__ import annotations

import torch


def kept(patches: int, keep: float, seed: int) -> list[int]:
    lot = torch.randperm(patches, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(lot[: max(1, round(keep * patches))])
