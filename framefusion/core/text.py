"""Text from outside (names, answers, messages), made harmless for each place where it is shown.

What a terminal, a browser or a plot would obey instead of show is spelled out: an escape character becomes `\\x1b`.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

# Controls but tab and newline, separators that end lines, and marks that turn the direction of what follows.
SEPARATORS, TURNS, HALVES = "\x85\u2028\u2029", "\u202a-\u202e\u2066-\u2069", "\ud800-\udfff"
_OBEYED = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f{SEPARATORS}{TURNS}{HALVES}]")
# Of Markdown; an underscore inside a word is only itself.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")


def visible(text: object) -> str:
    """`text` as it can be printed, with tabs and newlines."""
    return _OBEYED.sub(_spelled, str(text))


def one_line(text: object) -> str:
    """`text` without line ends, for a name or a message."""
    return visible(" ".join(str(text).split()))


def cell(text: object, style: str = "") -> Text:
    """`text` for a terminal, as a piece of its own: brackets and backslashes are no markup."""
    from rich.text import Text

    return Text(visible(text), style)


def for_plot(text: object) -> str:
    """`text` for matplotlib, which takes what stands between two dollar signs as mathematics."""
    return one_line(text).replace("$", r"\$")


def for_markdown(text: object) -> str:
    """`text` within a line of Markdown, none of it as markup or as an HTML element."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", html.escape(one_line(text), quote=False))


def as_code(text: object) -> str:
    """`text` as code within a line of Markdown."""
    plain = one_line(text)
    # Between backticks nothing can be escaped.
    return f"<code>{for_markdown(plain)}</code>" if re.search(r"[`|]|<!--|-->", plain) else f"`{plain}`"


def _spelled(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
