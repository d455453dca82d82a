"""The token maps of docs/gallery.md and the moving one of README.md, from the embedded model and its clip.

`python -m scripts.gallery` runs every method of the page and writes the pictures, small enough for a repository.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from framefusion.cli.demo_clip.clip import demo_clip
from framefusion.cli.view import look
from framefusion.core.method import Method
from framefusion.core.registry import methods
from framefusion.evaluation.view import palette
from framefusion.evaluation.view.picture import tinted
from framefusion.evaluation.view.scene import Scene
from framefusion.inference.answer.checkpoint import Checkpoint, load_checkpoint
from framefusion.inference.tiny import NAME

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
FOLDER = PAGE.with_suffix("")
MOVING = ROOT / "docs" / "view" / "map.webp"
QUESTION, COST = "which colour flashed?", 0.3
SHOWN, TILE, GAP = 8, 112, 4
MOVING_TILE, MOVING_MS = 224, 150


def named() -> list[str]:
    """The methods whose maps the page shows, in its order."""
    return re.findall(r"\(gallery/(\w+)\.webp\)", PAGE.read_text(encoding="utf-8"))


def scene_of(checkpoint: Checkpoint, method: Method) -> Scene:
    return look(checkpoint, demo_clip(), QUESTION, method, 1, with_dense=False)


def strip(scene: Scene) -> Image.Image:
    """Evenly spaced frames as they are after the last reduction point."""
    every = len(scene.pictures) // SHOWN
    shown, last = scene.pictures[every // 2 :: every], len(scene.history.steps)
    sheet = Image.new("RGB", (len(shown) * (TILE + GAP) - GAP, TILE), palette.PAPER)
    for number, picture in enumerate(shown):
        sheet.paste(tinted(scene, picture, last, (TILE, TILE)), (number * (TILE + GAP), 0))
    return sheet


def moving(scene: Scene) -> list[Image.Image]:
    """Every frame of the clip beside its patches as they are after the last reduction point."""
    size, last = (MOVING_TILE, MOVING_TILE), len(scene.history.steps)
    sheets = []
    for picture in scene.pictures:
        sheet = Image.new("RGB", (2 * MOVING_TILE + GAP, MOVING_TILE), palette.PAPER)
        for place, after in enumerate((0, last)):
            sheet.paste(tinted(scene, picture, after, size), (place * (MOVING_TILE + GAP), 0))
        sheets.append(sheet)
    return sheets


def webp(images: list[Image.Image], quality: int) -> bytes:
    held = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:], "duration": MOVING_MS, "loop": 0} if images[1:] else {}
    images[0].save(held, "WEBP", quality=quality, method=6, **more)
    return held.getvalue()


def main() -> None:
    checkpoint = load_checkpoint(NAME, device="cpu")
    FOLDER.mkdir(exist_ok=True)
    for name in named():
        method = methods.load(name)(**{methods.load(name).facts.budget: COST})
        scene = scene_of(checkpoint, method)
        (FOLDER / f"{name}.webp").write_bytes(webp([strip(scene)], quality=60))
        if name == "temporal_ward":
            MOVING.write_bytes(webp(moving(scene), quality=45))


if __name__ == "__main__":
    main()
