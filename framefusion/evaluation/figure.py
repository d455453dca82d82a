"""What the figures of this package share: matplotlib where it is installed, and one look."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from framefusion.core.destination import MARK, check_file, is_marked, put
from framefusion.core.errors import MissingPackageError, OptionError

# Okabe and Ito's colours, told apart with any kind of sight; yellow is left out on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
MARKERS = "osD^vP"
FORMATS = (".pdf", ".png", ".svg")
DOTS_PER_INCH = 160


def check_figure(
    path: Path, option: str = "--plot", not_these: Iterable[str | Path] = (), parents: bool = False
) -> None:
    """Raises before anything slow starts: MissingPackageError without matplotlib, OptionError for a wrong file.

    option: names the file. not_these: files that the command reads. parents: missing folders will be made.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "figures need matplotlib", "it is not installed", "pip install 'framefusion[plot]'"
        ) from error
    if path.suffix.lower() not in FORMATS:
        raise OptionError(f"cannot draw into {path.name}", hint=f"name a file that ends in {', '.join(FORMATS)}")
    check_file(path, option, ours=is_marked, not_these=not_these, parents=parents)


def new_figure(width: float, height: float) -> Any:
    """An empty figure, sizes in inches, that never touches matplotlib's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(axes: Any, grid: str = "y") -> None:
    """Two thin spines and a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=8, length=2)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=FAINT, linewidth=0.8)


def save(figure: Any, path: Path) -> None:
    """Raises OptionError where the file cannot be written."""
    kind, held = path.suffix.lower()[1:], io.BytesIO()
    about = {"Software" if kind == "png" else "Creator": MARK}
    figure.savefig(held, format=kind, dpi=DOTS_PER_INCH, facecolor="white", metadata=about)
    put(path, held.getvalue())
