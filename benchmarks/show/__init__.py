"""Everything that is shown, made from rows alone: tables, figures and one page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Row
from benchmarks.show.page import page
from benchmarks.show.plot import draw_growth
from benchmarks.show.stream import draw_ages
from benchmarks.show.tables import tables
from benchmarks.show.tower import draw_tower
from framefusion.core.destination import MARK, check_file, check_folder, is_marked, put
from framefusion.evaluation.figure import check_figure

__all__ = ["check_shown", "show_all", "tables"]

NAMES = TABLES, FIGURE, TOWER, AGES, PAGE = "tables.md", "growth.png", "tower.png", "ages.png", "page.html"


def show_all(rows: list[Row], folder: Path) -> None:
    """tables.md, growth.png where there are cells of growing length, tower.png where the tower's were measured,
    ages.png where streams were asked, and page.html, which holds all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = tables(rows)
    put(folder / TABLES, f"{text}\n\n<!-- {MARK} -->\n".encode())
    figures = [draw_growth(rows, folder / FIGURE), draw_tower(rows, folder / TOWER), draw_ages(rows, folder / AGES)]
    put(folder / PAGE, page(text, [figure for figure in figures if figure is not None]).encode())


def check_shown(folder: Path) -> None:
    """Raises OptionError where one of them cannot be written, or would replace a file of somebody else."""
    check_folder(folder, "--show")
    for name in (FIGURE, TOWER, AGES):
        check_figure(folder / name, "--show", parents=True)
    for name in (TABLES, PAGE):
        check_file(folder / name, "--show", ours=is_marked, parents=True)
