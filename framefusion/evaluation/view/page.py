"""A scene as one HTML file: its style, script and pictures are inside, and it asks no network for anything.

The whole page stands for itself; the map alone goes into a page of somebody else, one picture at a time.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from framefusion.core.destination import MARK
from framefusion.core.text import one_line
from framefusion.evaluation.view import palette
from framefusion.inference.report import bytes_for_people

if TYPE_CHECKING:
    from PIL import Image

    from framefusion.evaluation.view.scene import Picture, Scene
    from framefusion.inference.answer.answer import Answer

SHARED = ("history.js", "sheet.js", "patches.js")
FEW_PICTURES, LARGE_SIDE, SMALL_SIDE = 24, 640, 400
QUALITY = 78
BLANK = 28


def page(scene: Scene) -> str:
    """The whole document."""
    return _filled("page", scene, mark=MARK)


def map_page(scene: Scene, scheme: str = "light dark") -> str:
    """The token map alone, without answers and figures. scheme: of colours, `light`, `dark` or the reader's own."""
    return _filled("map", scene, scheme=scheme)


def _filled(name: str, scene: Scene, **more: str) -> str:
    room = files("framefusion.evaluation.view") / "page"

    def read(file: str) -> str:
        return (room / file).read_text(encoding="utf-8")

    parts = more | {
        "title": html.escape(f"{one_line(scene.source)} · {scene.reduced.kept_fraction:.0%} of the visual tokens"),
        "style": read("page.css"),
        "script": "\n".join(map(read, (*SHARED, f"{name}.js"))),
        # A script element ends at the first "</script", wherever it stands, and a comment may hide that end.
        "data": json.dumps(document(scene), separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], read(f"{name}.html"))


def document(scene: Scene) -> dict[str, Any]:
    """Everything the script shows, as JSON has it; pictures as data addresses."""
    history = scene.history
    side = LARGE_SIDE if len(scene.pictures) <= FEW_PICTURES else SMALL_SIDE
    return {
        "source": scene.source,
        "question": scene.question,
        "model": scene.model,
        "method": scene.method,
        "notes": list(scene.notes),
        "dense": None if scene.dense is None else {"text": scene.dense.text},
        "reduced": {"text": scene.reduced.text},
        "figures": figures(scene.dense, scene.reduced, scene.timed),
        "tokens": len(history),
        "layers": [layer.visual_in for layer in scene.prompt.layers],
        "steps": [
            {
                "label": str(step.point),
                "method": step.method,
                "layer": step.point.layer,
                "place": step.point.place,
                "before": step.before,
                "after": step.after,
            }
            for step in history.steps
        ],
        "gone": history.gone.tolist(),
        "into": history.into.tolist(),
        "shares": {str(token): list(others) for token, others in history.shares.items()},
        "repeats": None if scene.repeats is None else scene.repeats.tolist(),
        "pictures": [_picture(picture, side) for picture in scene.pictures],
        "palette": {
            "merged": palette.MERGED,
            "pruned": palette.PRUNED,
            "carries": palette.CARRIES,
            "repeated": palette.REPEATED,
            "empty": palette.EMPTY,
            "fresh": palette.FRESH,
            "earlier": palette.EARLIER,
        },
    }


def figures(dense: Answer | None, reduced: Answer, timed: bool) -> list[dict[str, str]]:
    """Name, value without and with reduction ("" where it was not run), and the share that is left."""

    def before(text: str) -> str:
        return "" if dense is None else text

    def share(part: float, whole: float | None) -> str:
        return f"{part / whole:.0%}" if whole else ""

    kv, ms = (dense.kv_bytes, dense.prefill_ms) if dense is not None else (None, None)
    entries = [
        (
            "visual tokens kept",
            f"{reduced.visual_tokens:,}",
            f"{reduced.kept_tokens:,}",
            f"{reduced.kept_fraction:.1%}",
        ),
        ("equivalent cost", "", f"{reduced.cost:.1%}", "of tokens per layer"),
        ("KV cache", before(bytes_for_people(kv)), bytes_for_people(reduced.kv_bytes), share(reduced.kv_bytes, kv)),
    ]
    if reduced.report is not None and (whole := reduced.report.patches_dense):
        encoded = reduced.report.patches
        entries.append(("patches encoded", f"{whole:,}", f"{encoded:,}", share(encoded, whole)))
    if timed:
        spent = f"{reduced.prefill_ms:,.0f} ms"
        entries.append(("prefill", before(f"{ms or 0:,.0f} ms"), spent, share(reduced.prefill_ms, ms)))
        if reduced.tower_ms is not None:
            tower = None if dense is None else dense.tower_ms
            spent = f"{reduced.tower_ms:,.0f} ms"
            entries.append(
                ("of it: vision tower", before(f"{tower or 0:,.0f} ms"), spent, share(reduced.tower_ms, tower))
            )
    return [dict(zip(("name", "dense", "reduced", "share"), entry, strict=True)) for entry in entries]


def _picture(picture: Picture, side: int) -> dict[str, Any]:
    rows, columns = picture.cells.shape
    image = picture.image
    size = (columns * BLANK, rows * BLANK) if image is None else image.size
    return {
        "name": picture.name,
        "rows": rows,
        "columns": columns,
        "cells": picture.cells.flatten().tolist(),
        "width": size[0],
        "height": size[1],
        "image": None if image is None else _data_address(image, side),
    }


def _data_address(image: Image.Image, side: int) -> str:
    small = image.convert("RGB")
    small.thumbnail((side, side))
    held = io.BytesIO()
    small.save(held, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode("ascii")
