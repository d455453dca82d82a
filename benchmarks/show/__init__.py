"""Everything that is shown, made from rows alone: tables, figures and one page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Row
from benchmarks.show.page import page
from benchmarks.show.plot import draw_growth
from benchmarks.show.tables import tables
from framefusion.core.destination import MARK, check_file, check_folder, is_marked, put
from framefusion.evaluation.figure import check_figure

__all__ = ["check_shown", "show_all", "tables"]

NAMES = TABLES, FIGURE, PAGE = "tables.md", "growth.png", "page.html"


def show_all(rows: list[Row], folder: Path) -> None:
    """tables.md, growth.png where there are cells of growing length, and page.html, which holds both."""
    folder.mkdir(parents=True, exist_ok=True)
    text = tables(rows)
    put(folder / TABLES, f"{text}\n\n<!-- {MARK} -->\n".encode())
    figure = draw_growth(rows, folder / FIGURE)
    put(folder / PAGE, page(text, figure).encode())


def check_shown(folder: Path) -> None:
    """Raises OptionError where one of the three cannot be written, or would replace a file of somebody else."""
    check_folder(folder, "--show")
    check_figure(folder / FIGURE, "--show", parents=True)
    for name in (TABLES, PAGE):
        check_file(folder / name, "--show", ours=is_marked, parents=True)
