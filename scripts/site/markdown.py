"""Pages as GitHub reads them, rewritten for Python-Markdown, which wants lists and tables written in another way."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
_ITEM = re.compile(r"( *)([-*+]|\d+[.)])( +)(?=\S)")
_FENCE = re.compile(r" *(```+|~~~+)")
_CODE = re.compile(r"`[^`\n]+`")
_LEVEL = 4  # columns of one level of a list in Python-Markdown


def with_links_moved(text: str, source: str, page: str, outside: Mapping[str, str]) -> str:
    """Links that hold in the repository, as they hold in the site.

    Args:
        text: Markdown.
        source: where the file lies in the repository.
        page: where it stands in the site.
        outside: the same for files outside docs/ that are part of the site.
    """

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        place = target.removeprefix("docs/") if target.startswith("docs/") else outside.get(target)
        return link[1] if place is None else posixpath.relpath(place, posixpath.dirname(page) or ".")

    return _LINK.sub(moved, text)


def for_python_markdown(text: str) -> str:
    """Lists with four columns per level and a blank line in front, and no backslash before a bar in a table's code."""
    lines: list[str] = []
    levels: list[int] = []  # for each open list, the column at which the text of its item starts
    fence, before, loose = "", "", False  # loose: an item of this list has had several paragraphs
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        item = None if fence else _ITEM.match(line)
        opens = _FENCE.match(line)
        starts = not levels
        if not fence and line.strip() and (item or opens or line.startswith("#") or not before.strip()):
            while levels and indent < levels[-1]:
                levels.pop()
        if item:
            if before.strip() and (loose or starts):
                lines.append("")
            loose = loose and not starts
            lines.append(" " * _LEVEL * len(levels) + f"{item[2]} {line[item.end() :]}")
            levels.append(item.end())
        else:
            loose = loose or (bool(levels) and not line.strip())
            cut = min(indent, levels[-1]) if levels else 0
            lines.append((" " * _LEVEL * len(levels) + _table_row(line[cut:], fence)) if line.strip() else "")
        before = line
        if opens and (not fence or opens[1] == fence):
            fence = "" if fence else opens[1]
            if not fence:
                lines.append("")
    return "\n".join(lines) + "\n"


def _table_row(line: str, fence: str) -> str:
    if fence or not line.startswith("|"):
        return line
    return _CODE.sub(lambda code: code[0].replace("\\|", "|"), line)
