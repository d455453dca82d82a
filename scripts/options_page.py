"""What every option of every method takes; `docs/options.md` is written from the declarations.

`python -m scripts.options_page` writes the page.
"""

from __future__ import annotations

from pathlib import Path

from framefusion.core.options.option import in_words
from framefusion.core.registry import list_methods

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
HEAD = "| method | option | takes | default |\n| --- | --- | --- | --- |\n"


def page() -> str:
    """The text of docs/options.md: what is written there above the table, and the table."""
    rows = [
        f"| `{facts['name']}` | `{name}` | {option['accepts']} | {in_words(option['default'])} |\n"
        for facts in list_methods()
        for name, option in facts["declared"].items()
    ]
    return PAGE.read_text().partition(HEAD)[0] + HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
