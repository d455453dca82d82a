"""Stage two: every clip of the course through the finished tower, once, kept on disk for the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.multiprocessing import get_context

from framefusion.evaluation.synthetic_questions import FRAMES, draw_scene, render
from training.architecture import build_model
from training.labels import label
from training.progress import Course, load, note_time, save
from training.tower import attend_by_frame, normalisation, patches, see

SHARD, SEEN_FOR_SCALE = 128, 48
# Half precision is enough for what the tower saw; the labels of the visual states fit a byte or a half.
KEPT = {"touched": torch.bool, "way": torch.int8, "speed": torch.float16, "age": torch.float16, "change": torch.int8}


def compute_features(work: Path, clips: int, processes: int) -> None:
    """Shards work/features/NNNNN.pt with tokens (SHARD, N, D) and the labels of KEPT, for seeds 0 to `clips`."""
    shards = [number for number in range(-(-clips // SHARD)) if not _path(work, number).exists()]
    total = -(-clips // SHARD)
    with Course("features", total, total - len(shards)) as course, get_context("spawn").Pool(processes) as pool:
        for _ in pool.imap_unordered(_compute, [(work, number, clips) for number in shards]):
            course.advance({})
    if shards:
        note_time(work, "features", course.lap())


def load_features(work: Path, clips: int) -> dict[str, torch.Tensor]:
    """All shards as one tensor per name."""
    shards: list[Any] = [load(_path(work, number)) for number in range(-(-clips // SHARD))]
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


def _path(work: Path, number: int) -> Path:
    return work / "features" / f"{number:05d}.pt"


def _compute(task: tuple[Path, int, int]) -> None:
    work, number, clips = task
    torch.set_num_threads(1)
    seeds = range(number * SHARD, min((number + 1) * SHARD, clips))
    rows = [clip_features(tower_of(work), seed) for seed in seeds]
    save(_path(work, number), {name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def clip_features(visual: Any, seed: int) -> dict[str, torch.Tensor]:
    """tokens: (N, D), and the labels of every token."""
    scene = draw_scene(seed)
    clip = render(scene)
    with torch.inference_mode():
        tokens = see(visual, patches(torch.from_numpy(clip), *normalisation()), FRAMES)
    labels = label(scene, list(range(FRAMES)), clip)
    row = {name: _flat(getattr(labels, name), kind) for name, kind in KEPT.items()}
    return {"tokens": tokens.flatten(0, 1).half(), **row}


def _flat(values: np.ndarray, kind: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(values).flatten(0, 2).to(kind)


_towers: dict[Path, Any] = {}


def tower_of(work: Path) -> Any:
    """The trained tower, every channel of its output moved and scaled to mean zero and spread one.

    Its last linear layer takes that in, so the model stays the stock one. Without it a large common part makes all
    tokens of a clip look alike to a cosine.
    """
    if work not in _towers:
        state = load(work / "tower.pt")
        assert state is not None, "the tower comes first"
        visual = build_model(1).model.visual.eval()
        visual.load_state_dict(state["visual"])
        attend_by_frame(visual)
        last = visual.merger.mlp[-1]
        with torch.inference_mode():
            clips = np.concatenate([render(draw_scene(seed), range(0, FRAMES, 4)) for seed in range(SEEN_FOR_SCALE)])
            tokens = see(visual, patches(torch.from_numpy(clips), *normalisation()), len(clips)).flatten(0, 1)
            last.bias -= tokens.mean(0)
            last.bias /= tokens.std(0)
            last.weight /= tokens.std(0)[:, None]
        _towers[work] = visual
    return _towers[work]
