"""Tables and figure as one file that asks no network for anything."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from pathlib import Path

from framefusion.core.destination import MARK

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h3 { margin: 2.2rem 0 .3rem; font-size: 1.05rem } p { color: #6b6b6b; font-size: .9rem; margin: .3rem 0 }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #e4e4e4 }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left } th { color: #6b6b6b; font-weight: 500 }
img { max-width: 100% }
"""


def page(tables: str, figures: Iterable[Path]) -> str:
    """The whole document, from the Markdown of `tables` and the pictures."""
    picture = ""
    for figure in figures:
        data = base64.b64encode(figure.read_bytes()).decode("ascii")
        picture += f'<img alt="{figure.stem}" src="data:image/png;base64,{data}">'
    body = "\n".join(_block(block) for block in tables.split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="generator" content="{MARK}">'
        "<title>FrameFusion benchmarks</title>"
        f"<style>{STYLE}</style><h1>FrameFusion benchmarks</h1>{picture}\n{body}</html>\n"
    )


def _block(block: str) -> str:
    if block.startswith("### "):
        return f"<h3>{html.escape(block[4:])}</h3>"
    if not block.startswith("| "):
        return "".join(f"<p>{html.escape(line)}</p>" for line in block.split("\n"))
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.split("\n"))
    return "<table>" + _line(head, "th") + "".join(_line(row, "td") for row in rows) + "</table>"


def _line(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
