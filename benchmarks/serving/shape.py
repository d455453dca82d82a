"""The tiny checkpoint that a benchmark of serving asks where no model is named.

Two cores answer in a fraction of a second. Of the work on a visual token the language model has the share it has in the
models that the families are known for, or less: 72 % in Qwen2.5-VL-7B, 79 % in Qwen3-VL-8B, 81 % in LLaVA-OneVision-7B,
84 % in InternVL3-8B; the vision tower has the rest. A frame of a clip has 64 tokens in towers of one size: the text
between frames, which nothing reduces, is long in toy vocabularies, which spell it letter by letter, and would be nearly
half of the prompt beside frames of 16 tokens; those models have 196 or 256.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

from safetensors import safe_open

from framefusion.inference.answer.weight_names import shapes_in
from tests.serving.checkpoints import ONE_SIZE, Sizes, save_checkpoint

SIZES = {
    "shares": Sizes(layers=8, hidden=256, inner=1024, heads=8, blocks=3, tower=128, tower_inner=384, tower_heads=4),
    "tests": Sizes(layers=8),
}
"""`tests`: as wide as the checkpoints of the tests, so small that most of a request is the server's own work on it."""
FRAME = 112
"""Side in pixels of a clip's frames for towers of one size, with `shares`."""
LONG_FRAMED = ("gemma3",)
"""Families with many words around each picture, which has 64 tokens, too, with `shares`."""
PATCHES = 4
"""Of a visual token, in every tiny family."""
MERGERS = ("merger", "projector")
TOWERS = ("visual.", "vision_tower.")


def save(family: str, folder: Path, sizes: str, clips: bool) -> Path:
    """Write the family's checkpoint with random weights. sizes: a name of `SIZES`. clips: whether it reads clips."""
    chosen = SIZES[sizes]
    enlarged = replace(chosen, pixels=FRAME) if sizes == "shares" and (clips or family in LONG_FRAMED) else chosen
    return save_checkpoint(family, folder / family, enlarged)


def frames(family: str, sizes: str) -> int:
    """Of a clip, so that it has about 1000 visual tokens."""
    return 16 if sizes == "shares" and family in ONE_SIZE else 32


def work(checkpoint: Path) -> dict[str, float]:
    """Millions of multiplications and additions on one visual token: of the vision tower with its projector, and of
    the language model, without attention's own."""
    found = {"tower": 0.0, "language": 0.0}
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name, shape in shapes_in(file).items():
                if len(shape) < 2 or "embed" in name or "lm_head" in name:
                    continue
                merges = any(part in name for part in MERGERS)
                tower = merges or any(part in name for part in TOWERS)
                times = PATCHES if tower and not merges else 1
                found["tower" if tower else "language"] += 2e-6 * prod(shape) * times
    return {part: round(value, 2) for part, value in found.items()}
