"""Everything that is shown, made from rows alone: tables, figures and one page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Row
from benchmarks.show.page import page
from benchmarks.show.plot import draw_growth
from benchmarks.show.tables import tables

__all__ = ["show_all", "tables"]


def show_all(rows: list[Row], folder: Path) -> None:
    """tables.md, growth.png where there are cells of growing length, and page.html, which holds both."""
    text = tables(rows)
    (folder / "tables.md").write_text(text + "\n", encoding="utf-8")
    figure = draw_growth(rows, folder / "growth.png")
    (folder / "page.html").write_text(page(text, figure), encoding="utf-8")
