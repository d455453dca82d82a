"""Put the scripts of examples/ into docs/examples.md, each behind the comment that names it. Run after changing one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "examples.md"
BLOCK = re.compile(r"<!-- (examples/\w+\.py) -->\n```python\n.*?^```$", re.MULTILINE | re.DOTALL)


def with_scripts(page: str) -> str:
    """The page's text with every script as it is now."""

    def block(found: re.Match[str]) -> str:
        code = (ROOT / found[1]).read_text(encoding="utf-8")
        return f"<!-- {found[1]} -->\n```python\n{code}```"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(with_scripts(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
