"""`python -m scripts.site.offline FOLDER`: fails where a page of the site would load something from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path


class _Loaded(HTMLParser):
    """Addresses that a browser fetches by itself; links that a reader clicks are none."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        named = given.get("href") if tag == "link" and given.get("rel") != "canonical" else given.get("src")
        self.addresses += [named] if named and "//" in named else []


def loaded_from_elsewhere(folder: Path) -> Iterator[str]:
    """`page: address` of everything that is not part of the site itself."""
    for path in sorted(folder.rglob("*.html")):
        page = _Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(folder)}: {address}" for address in page.addresses)


if __name__ == "__main__":
    sys.exit("\n".join(loaded_from_elsewhere(Path(sys.argv[1]))) or 0)
