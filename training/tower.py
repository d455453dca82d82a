"""Stage one: the vision tower learns from single frames to say what each token shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as counting
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from framefusion.evaluation.synthetic_questions import FRAMES, draw_scene, render
from framefusion.evaluation.synthetic_questions.scene import COLOURS, SHAPES
from training.architecture import GRID, MERGE, PATCH, WIDTH, build_model, build_processor
from training.labels import NOTHING, Labels, label
from training.optimise import Optimiser
from training.progress import BETWEEN_SAVES, Course, load, note_time, rate_at, save

KINDS = len(COLOURS)
HEADS = {
    "touched": KINDS,
    "centred": KINDS,
    "offset": KINDS * 2,
    "shape": len(SHAPES),
    "radius": KINDS,
    "digit": 10,
    "digit_near": 1,
    "flash": KINDS,
    "pixels": 12,
}
FRAMES_PER_SCENE, HALF = 4, True


def patches(frames: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """(T, S, S, 3) uint8 to (T · patches, 3 · PATCH²), in the order and scale of the model's video processor."""
    count = len(frames)
    scaled = (frames.float() / 255 - mean) / spread
    cut = scaled.view(count, GRID, MERGE, PATCH, GRID, MERGE, PATCH, 3)
    return cut.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(count * GRID * GRID * MERGE * MERGE, -1)


def see(visual: Any, rows: torch.Tensor, count: int) -> torch.Tensor:
    """(T, G², D): the tower on `count` frames, every frame by itself, as the stock forward does, in one batch."""
    grid = torch.tensor([[count, GRID * MERGE, GRID * MERGE]])
    output = visual(rows, grid_thw=grid)
    merged = output.pooler_output if hasattr(output, "pooler_output") else output
    return merged.view(count, GRID * GRID, WIDTH)


def attend_by_frame(visual: Any) -> None:
    """Let all frames attend in one call; the stock code loops over them, which is slow in training."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

    patches_per_frame = (GRID * MERGE) ** 2

    def forward(self: Any, hidden_states: Any, position_embeddings: Any = None, **_: Any) -> torch.Tensor:
        length = len(hidden_states)
        query, key, value = self.qkv(hidden_states).view(length, 3, self.num_heads, -1).unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        split = [part.view(-1, patches_per_frame, *part.shape[1:]).transpose(1, 2) for part in (query, key, value)]
        mixed = F.scaled_dot_product_attention(*split)
        return self.proj(mixed.transpose(1, 2).reshape(length, -1))

    for block in visual.blocks:
        block.attn.forward = forward.__get__(block.attn)


def stop_attending_by_frame(visual: Any) -> None:
    for block in visual.blocks:
        block.attn.__dict__.pop("forward", None)


def single_frames(seeds: Iterator[int], scenes: int) -> Iterator[tuple[np.ndarray, Labels]]:
    """Batches of a few frames from each of `scenes` scenes."""
    while True:
        pictures, labels = [], []
        for seed in (next(seeds) for _ in range(scenes)):
            scene = draw_scene(seed)
            draw = np.random.default_rng([seed, 2])
            frames = sorted(int(frame) for frame in draw.choice(FRAMES, FRAMES_PER_SCENE, replace=False))
            if scene.flash is not None and draw.random() < 0.5:
                frames[0] = scene.flash.frame
            clip = render(scene, frames)
            pictures.append(clip)
            labels.append(label(scene, frames, clip))
        yield np.concatenate(pictures), join(labels)


def join(labels: list[Labels]) -> Labels:
    return Labels(**{name: np.concatenate([getattr(one, name) for one in labels]) for name in vars(labels[0])})


def tower_loss(answers: dict[str, torch.Tensor], labels: Labels) -> dict[str, torch.Tensor]:
    """One term per head; what is not there (a radius of no thing) does not count."""
    truth = {name: torch.from_numpy(getattr(labels, name)).flatten(0, 2) for name in HEADS}
    touched = truth["touched"].bool()
    offset = answers["offset"].view(-1, KINDS, 2)
    losses = {
        name: F.binary_cross_entropy_with_logits(answers[name].view_as(truth[name]), truth[name])
        for name in ("touched", "centred", "digit_near", "flash")
    }
    losses["shape"] = F.cross_entropy(answers["shape"], truth["shape"], ignore_index=NOTHING)
    losses["offset"] = F.smooth_l1_loss(offset[touched], truth["offset"][touched], beta=0.1)
    losses["radius"] = F.smooth_l1_loss(answers["radius"][touched], truth["radius"][touched], beta=0.1)
    losses["digit"] = F.cross_entropy(answers["digit"], truth["digit"], ignore_index=NOTHING)
    losses["pixels"] = F.mse_loss(answers["pixels"], truth["pixels"])
    return {name: loss.nan_to_num(0.0) for name, loss in losses.items()}


WEIGHTS = {
    "touched": 4,
    "centred": 4,
    "digit_near": 2,
    "flash": 2,
    "shape": 2,
    "offset": 2,
    "radius": 1,
    "digit": 1,
    "pixels": 2,
}


class Heads(torch.nn.Module):
    """One linear layer per label."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.RMSNorm(WIDTH)
        self.linear = torch.nn.Linear(WIDTH, sum(HEADS.values()))

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = self.linear(self.norm(tokens)).split(list(HEADS.values()), -1)
        return dict(zip(HEADS, parts, strict=True))


class Frames(torch.utils.data.IterableDataset):
    """Rendered in a process of its own while the other core trains."""

    def __init__(self, first: int, scenes: int) -> None:
        self.first, self.scenes = first, scenes

    def __iter__(self) -> Iterator[tuple[np.ndarray, Labels]]:
        return single_frames(counting(self.first), self.scenes)


def train_tower(work: Path, steps: int, scenes: int, seed: int) -> None:
    """`steps` batches of `scenes` × 4 frames; leaves work/tower.pt with the weights of the tower and its heads."""
    if (work / "tower.pt").exists():
        return
    torch.manual_seed(seed)
    visual, heads = build_model(1).model.visual, Heads()
    attend_by_frame(visual)
    mean, spread = normalisation()
    both = torch.nn.ModuleDict({"visual": visual, "reading": heads})
    optimiser = Optimiser(both.named_parameters())
    state = load(work / "tower-part.pt")
    start = 0
    if state is not None:
        both.load_state_dict(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    batches = iter(DataLoader(Frames(start * scenes, scenes), batch_size=None, num_workers=1, prefetch_factor=4))
    with Course("tower", steps, start) as course:
        for step in range(start, steps):
            pictures, labels = next(batches)
            with torch.autocast("cpu", torch.bfloat16, enabled=HALF):
                tokens = see(visual, patches(torch.as_tensor(pictures), mean, spread), len(pictures))
            losses = tower_loss(heads(tokens.float().flatten(0, 1)), labels)
            total = sum((WEIGHTS[name] * loss for name, loss in losses.items()), torch.zeros(()))
            optimiser.step(total, rate_at(step, steps))
            course.advance({name: float(loss.detach()) for name, loss in losses.items()})
            if (step + 1) % BETWEEN_SAVES == 0:
                weights = {"weights": both.state_dict(), "optimiser": optimiser.state_dict()}
                save(work / "tower-part.pt", {"step": step + 1, **weights})
                note_time(work, "tower", course.lap())
    note_time(work, "tower", course.lap())
    save(work / "tower.pt", {"visual": visual.state_dict(), "reading": heads.state_dict(), "steps": steps})


def normalisation() -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and spread per channel that the model's processor takes."""
    processor = build_processor().video_processor
    return torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
