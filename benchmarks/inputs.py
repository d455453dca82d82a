"""Prompts whose visual tokens resemble those of a real video, from a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from framefusion.core.layout import Geometry, Layout, Placement

HEAD, TAIL = 14, 26
"""Text tokens before and after the video."""
STILL, MOVING = 3.3, 1.8
"""Parameters of the beta distribution of adjacent similarity: median 0.66, a long tail towards change."""
OF_THE_PLACE = 0.5
"""How much of a token's similarity its place in the picture decides, the background being calm and the action not."""


@dataclass(frozen=True)
class Prompt:
    """embeds: (1, L, D). positions: (3, 1, L). layout: where the visual tokens are. profile: their similarities."""

    embeds: Tensor
    positions: Tensor
    layout: Layout
    profile: dict[str, float]

    @property
    def length(self) -> int:
        return self.embeds.shape[1]


def video_tokens(frames: int, patches: int, width: int, seed: int = 1) -> Tensor:
    """(T * patches, D) float32: each token turns away from its predecessor by an angle drawn for it."""
    draw = torch.Generator().manual_seed(seed)
    wanted = _similarities(frames, patches, draw)
    now = torch.nn.functional.normalize(torch.randn(patches, width, generator=draw), dim=-1)
    tokens = torch.empty(frames, patches, width)
    for frame in range(frames):
        if frame:
            fresh = torch.randn(patches, width, generator=draw)
            fresh = torch.nn.functional.normalize(fresh - (fresh * now).sum(-1, keepdim=True) * now, dim=-1)
            cosine = wanted[frame][:, None]
            now = cosine * now + (1.0 - cosine.square()).sqrt() * fresh
        tokens[frame] = now
    # Of unit scale, so that layers of random weights add little and tokens stay as alike as they came.
    return tokens.view(-1, width) * width**0.5


def _similarities(frames: int, patches: int, draw: torch.Generator) -> Tensor:
    """(T, patches) with the beta distribution as its marginal, ranks shared between the frames of a place."""
    place = torch.randn(1, patches, generator=draw)
    own = torch.randn(frames, patches, generator=draw)
    rank = torch.special.ndtr(OF_THE_PLACE**0.5 * place + (1.0 - OF_THE_PLACE) ** 0.5 * own)
    grid = torch.linspace(0.0, 1.0, 4097)[1:-1]
    density = grid ** (STILL - 1.0) * (1.0 - grid) ** (MOVING - 1.0)
    cumulated = density.cumsum(0) / density.sum()
    return grid[torch.searchsorted(cumulated, rank).clamp(max=grid.numel() - 1)]


def profile_of(tokens: Tensor, patches: int) -> dict[str, float]:
    """Quantiles of the cosine between neighbouring frames, of tokens (T * patches, D)."""
    found = torch.cosine_similarity(tokens[patches:].float(), tokens[:-patches].float(), dim=-1)
    levels = torch.quantile(found[:1_000_000], torch.tensor([0.05, 0.5, 0.95]))
    names = ("p5", "median", "p95")
    return {name: round(float(level), 3) for name, level in zip(names, levels, strict=True)}


def make_prompt(frames: int, patches: int, width: int, dtype: torch.dtype, device: torch.device) -> Prompt:
    """A video of T x patches tokens between two pieces of text."""
    visual = video_tokens(frames, patches, width)
    profile = profile_of(visual, patches) if frames > 1 else {}
    draw = torch.Generator().manual_seed(2)
    text = torch.randn(HEAD + TAIL, width, generator=draw)
    embeds = torch.cat([text[:HEAD], visual, text[HEAD:]])[None].to(device, dtype)
    columns = torch.arange(HEAD, HEAD + visual.shape[0])
    geometry = Geometry.grid(frames, 1, patches)
    positions = torch.arange(embeds.shape[1], device=device).expand(3, 1, -1)
    return Prompt(embeds, positions, Layout(((geometry, Placement(columns)),), embeds.shape[1]), profile)
