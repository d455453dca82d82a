"""What readers see first: links lead somewhere, tables are those of the rows, every method says when to use it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import framefusion as ff
from framefusion.core.registry import methods
from scripts import gallery, readme
from tests.project.tree import ROOT, relative
from tests.support.documents import pages

LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
LARGEST = 200_000  # bytes of a picture that is made for a page


def anchors(path: Path) -> set[str]:
    """Those of a page's headings, as GitHub names them."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head).lower() for head in heads)
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in plain}


def dead_links(path: Path) -> list[str]:
    """Links of a page to files that are not there, and to headings that are not."""
    dead = []
    text = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))
    for found in LINK.finditer(text):
        target, _, anchor = (found[1] or found[2]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        to = (path.parent / target).resolve() if target else path
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            dead.append(found[0])
    return dead


@pytest.mark.parametrize("path", pages(), ids=relative)
def test_its_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n[a](#one-two-three) [b](page.md) `[no](link.md)`\n")
    assert dead_links(page) == []
    page.write_text("# One\n[a](#two) [b](other.md) ![c](no.png) [d](page.md#three)\n")
    assert len(dead_links(page)) == 4


def test_the_first_page_is_short_and_its_tables_are_those_of_the_rows() -> None:
    text = readme.PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 180
    assert readme.page(text) == text, "run `python -m scripts.readme`"


def section(text: str, head: str) -> str:
    return text.split(f"\n## {head}\n")[1].split("\n## ")[0]


def test_figures_of_the_first_page_are_those_of_the_pages_they_come_from() -> None:
    text = readme.PAGE.read_text(encoding="utf-8")
    measured = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    figures = set(re.findall(r"\d+\.\d+", section(text, "What it costs in answers")))
    assert len(figures) > 10
    known = set(re.findall(r"\d+\.\d+", section(measured, "The recommended method")))
    assert figures <= known
    models = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    counts = [int(count) for count in re.findall(r"^## [^:\n]+: (\d+)$", models, re.MULTILINE)]
    assert f"{counts[0]} of the {sum(counts)} image-and-text" in text


def test_every_page_of_a_method_says_when_to_use_it() -> None:
    found = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "methods").glob("*.md")}
    assert set(methods) - {"prumerge_plus"} <= set(found)
    assert [name for name, text in found.items() if "\n## When to use it\n" not in text] == []


def test_the_gallery_is_what_its_page_shows() -> None:
    shown = gallery.named()
    assert len(shown) >= 8 and set(shown) <= set(methods)
    assert {path.stem for path in gallery.FOLDER.iterdir()} == set(shown)
    assert max(path.stat().st_size for path in [*gallery.FOLDER.iterdir(), gallery.MOVING]) < LARGEST


@pytest.mark.slow
def test_a_map_of_the_gallery_is_the_one_the_script_draws() -> None:
    import io

    import numpy as np
    from PIL import Image

    from framefusion.inference.tiny import NAME

    scene = gallery.scene_of(ff.load_checkpoint(NAME, device="cpu"), ff.TemporalWard(keep=gallery.COST))
    drawn = Image.open(io.BytesIO(gallery.webp([gallery.strip(scene)], quality=60)))
    kept = Image.open(gallery.FOLDER / "temporal_ward.webp")
    assert np.abs(np.asarray(drawn, float) - np.asarray(kept, float)).mean() < 2


def test_the_release_has_one_version() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited and cited[1] == ff.__version__
