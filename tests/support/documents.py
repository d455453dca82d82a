"""The Markdown pages of the project, their fenced blocks, and the command lines in these."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.project.tree import ROOT, files

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: page and line where it stands, its language, its text without the indent."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass
class Command:
    """A command line of a console block, and the lines that the page shows behind it."""

    block: Block
    text: str
    output: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """As a shell splits it, without a comment and without the variables set in front."""
        words = shlex.split(self.text.replace("\\\n", " "), comments=True)
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        return words[:-1] if words[-1:] == ["&"] else words

    @property
    def parts(self) -> list[list[str]]:
        """The commands of the line, each without what is sent into or out of it."""
        parts: list[list[str]] = [[]]
        words = iter(self.words)
        for word in words:
            if word in {"&&", "|"}:
                parts.append([])
            elif word in {"<", ">"}:
                next(words)
            else:
                parts[-1].append(word)
        return parts

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    return [path for path in files() if path.suffix == ".md"]


def blocks() -> Iterator[Block]:
    """Every fenced block of every page."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            body = "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True))
            yield Block(path.relative_to(ROOT).as_posix(), text[: found.start()].count("\n") + 1, found[2], body)


def commands(block: Block) -> list[Command]:
    """What stands behind each `$ `, with the lines that belong to it."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(block, line[2:]))
        elif found and _goes_on(found[-1].text):
            found[-1].text += "\n" + line
        elif found:
            found[-1].output.append(line)
    return found


def _goes_on(text: str) -> bool:
    if text.endswith("\\"):
        return True
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quote is open
        return True
    return False


def shown(expected: list[str], printed: str) -> list[str]:
    """The expected lines that were not printed, each behind the one before; `...` stands for any number of lines.

    Columns of a table are as wide as their widest entry, the memory of the process among them, so spaces do not count.
    """
    lines, at, missing = [" ".join(line.split()) for line in printed.splitlines()], 0, []
    for line in (" ".join(line.split()) for line in expected):
        if (line.strip("│ .") == "" and "..." in line) or not line:
            continue
        if line in lines[at:]:
            at = lines.index(line, at) + 1
        else:
            missing.append(line)
    return missing
