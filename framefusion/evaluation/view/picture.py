"""A scene as a picture, one panel per reduction point, or as an animation over points or frames."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from framefusion.core.destination import MARK, put
from framefusion.core.text import one_line
from framefusion.evaluation.view import palette
from framefusion.evaluation.view.palette import rgb
from framefusion.evaluation.view.token_history import KEPT, MERGED, NOBODY, PRUNED

if TYPE_CHECKING:
    from framefusion.evaluation.view.scene import Picture, Scene

WIDTH, ANIMATION_WIDTH = 1600, 960
MARGIN, GAP = 24, 6
LETTERS = 60
LARGEST_TILE = 380
HATCH = 7
POINT_MS, FRAME_MS, LAST_MS = 1400, 500, 2600
COLOURS = 96


def panels(scene: Scene, width: int = WIDTH) -> Image.Image:
    """One panel under the other, one per reduction point; a single one where nothing was taken out."""
    points = range(1, len(scene.history.steps) + 1) or (0,)
    return _stack([_head(scene, width), *(_panel(scene, after, width) for after in points)])


def write_panels(scene: Scene, to: Path) -> None:
    """`panels` as a PNG file. Raises OptionError where it cannot be written."""
    held, about = io.BytesIO(), PngInfo()
    about.add_text("Software", MARK)
    panels(scene).save(held, "PNG", pnginfo=about)
    put(to, held.getvalue())


def write_animation(scene: Scene, to: Path, over_frames: bool = False, width: int = ANIMATION_WIDTH) -> None:
    """A GIF that runs through the reduction points, or through the frames as they are after the last point.

    Raises OptionError where it cannot be written.
    """
    if over_frames:
        images = [_side_by_side(scene, number, width) for number in range(len(scene.pictures))]
    else:
        points = range(len(scene.history.steps) + 1)
        images = [_stack([_head(scene, width), _panel(scene, after, width)]) for after in points]
    tallest = max(image.height for image in images)
    same = [_few_colours(_stack([image], height=tallest)) for image in images]
    times = [FRAME_MS if over_frames else POINT_MS] * (len(same) - 1) + [LAST_MS]
    held = io.BytesIO()
    more = {"save_all": True, "append_images": same[1:], "duration": times, "loop": 0, "optimize": True}
    same[0].save(held, "GIF", comment=MARK, **more)
    put(to, held.getvalue())


def _few_colours(image: Image.Image) -> Image.Image:
    """With a palette of its own, in which the colours of the legend are exact."""
    named = [part for name in (palette.MERGED, palette.PRUNED, palette.CARRIES) for part in rgb(name)]
    rest = COLOURS - len(named) // 3
    found = image.quantize(rest, dither=Image.Dither.NONE).getpalette() or []
    wanted = Image.new("P", (1, 1))
    wanted.putpalette(named + found[: 3 * rest])
    return image.quantize(palette=wanted, dither=Image.Dither.NONE)


def tinted(scene: Scene, picture: Picture, after: int, size: tuple[int, int]) -> Image.Image:
    """One picture of `size` (width, height) as it is after the first `after` steps."""
    width, height = size
    paper = Image.new("RGB", size, palette.EMPTY) if picture.image is None else picture.image.resize(size)
    pixels = np.asarray(paper.convert("RGB"), dtype=np.float32)
    rows, columns = picture.cells.shape
    # Borders at the same pixels as the page draws them.
    tops, lefts = (np.round(np.arange(n + 1) * side / n).astype(int) for n, side in ((rows, height), (columns, width)))
    row = np.searchsorted(tops, np.arange(height), side="right") - 1
    column = np.searchsorted(lefts, np.arange(width), side="right") - 1
    token = picture.cells[row][:, column]
    here = token != NOBODY
    state = np.where(here, scene.history.states(after)[token], KEPT)
    strong = scene.history.fresh(after)[token]
    share = np.where(state == KEPT, 0.0, np.where(strong, palette.FRESH, palette.EARLIER))[..., None]
    colour = np.where((state == MERGED)[..., None], rgb(palette.MERGED), rgb(palette.PRUNED))
    pixels = pixels * (1 - share) + colour * share
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % HATCH < 2
    pixels[(state == PRUNED) & diagonal] *= 0.7
    line = max(1, round(min(width / columns, height / rows) / 12))
    y, x = np.arange(height), np.arange(width)
    edge = np.logical_or.outer(
        (y - tops[row] < line) | (tops[row + 1] - y <= line),
        (x - lefts[column] < line) | (lefts[column + 1] - x <= line),
    )
    pixels[here & (state == KEPT) & (scene.history.carried(after)[token] > 1) & edge] = rgb(palette.CARRIES)
    pixels[~here] = rgb(palette.EMPTY)
    if scene.repeats is not None:
        again = here & (scene.repeats[token] != token)
        side = min(width / columns, height / rows) / 3
        pixels[again & ((lefts[column + 1] - 1 - x)[None] + (y - tops[row])[:, None] < side)] = rgb(palette.REPEATED)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _panel(scene: Scene, after: int, width: int) -> Image.Image:
    """All pictures after `after` steps, under a line that names the point."""
    columns = max(1, min(len(scene.pictures), 8, max(4, round(len(scene.pictures) ** 0.5))))
    inner = width - 2 * MARGIN
    tile = min(LARGEST_TILE, (inner - (columns - 1) * GAP) // columns)
    sizes = [_size(picture, tile) for picture in scene.pictures]
    line = _line(width)
    rows = [sizes[first : first + columns] for first in range(0, len(sizes), columns)]
    heights = [max(height for _, height in row) for row in rows]
    sheet = _paper(width, line + sum(heights) + GAP * len(heights) + MARGIN // 2)
    _write(sheet, (MARGIN, 0), _point(scene, after))
    top = line + 2
    for number, (picture, size) in enumerate(zip(scene.pictures, sizes, strict=True)):
        if number and number % columns == 0:
            top += heights[number // columns - 1] + GAP
        sheet.paste(tinted(scene, picture, after, size), (MARGIN + number % columns * (tile + GAP), top))
    return sheet


def _side_by_side(scene: Scene, number: int, width: int) -> Image.Image:
    """One picture before and after the reduction."""
    picture, last = scene.pictures[number], len(scene.history.steps)
    size = _size(picture, (width - 2 * MARGIN - GAP) // 2)
    line = _line(width)
    sheet = _paper(width, line + size[1] + MARGIN)
    _write(sheet, (MARGIN, 0), f"{picture.name}, {_point(scene, last)}")
    for place, after in enumerate((0, last)):
        sheet.paste(tinted(scene, picture, after, size), (MARGIN + place * (size[0] + GAP), line + 2))
    return _stack([_head(scene, width), sheet])


def _point(scene: Scene, after: int) -> str:
    total = len(scene.history)
    left = scene.history.steps[after - 1].after if after else total
    name = str(scene.history.steps[after - 1].point) if after else "before any reduction"
    return f"{name}: {left:,} of {total:,} visual tokens left"


def _head(scene: Scene, width: int) -> Image.Image:
    """What is shown, and the legend."""
    line, side = _line(width), width // LETTERS
    sheet = _paper(width, MARGIN + 2 * line)
    draw = ImageDraw.Draw(sheet)
    parts = (scene.source, scene.method.partition("(")[0], scene.model)
    _write(sheet, (MARGIN, MARGIN // 2), "   ".join(map(one_line, parts)))
    top, left = MARGIN // 2 + line + 2, MARGIN
    entries: list[tuple[str, str, str | None]] = [
        ("kept", palette.CLEAR, None),
        ("kept, carries others", palette.CLEAR, palette.CARRIES),
        ("merged", palette.MERGED, None),
        ("pruned", palette.PRUNED, None),
        *([] if scene.repeats is None else [("not encoded (a corner)", palette.REPEATED, None)]),
    ]
    for name, fill, outline in entries:
        draw.rectangle((left, top, left + side - 1, top + side - 1), fill, outline, side // 6 if outline else 0)
        if fill == palette.PRUNED:
            for step in range(side // 4, side, side // 3):
                draw.line((left + step, top, left, top + step), fill=palette.INK)
        _write(sheet, (left + side + 6, top - side // 6), name)
        left += 3 * side + round(draw.textlength(name, _font(width)))
    return sheet


def _size(picture: Picture, width: int) -> tuple[int, int]:
    rows, columns = picture.cells.shape
    ratio = rows / columns if picture.image is None else picture.image.height / picture.image.width
    return width, max(1, round(width * ratio))


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), palette.PAPER)


def _stack(parts: list[Image.Image], height: int = 0) -> Image.Image:
    """One under the other, at least `height` high."""
    whole = _paper(parts[0].width, max(height, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _font(width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(width // LETTERS)


def _line(width: int) -> int:
    """Height of a line of text on paper of that width."""
    return round(1.6 * width / LETTERS)


def _write(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(sheet).text(place, text, fill=palette.INK, font=_font(sheet.width))
