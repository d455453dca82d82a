"""Rows of `docs/prompts.md`, made again."""

from __future__ import annotations

import pytest
import transformers

from framefusion.testing.conformance.prompts import row
from framefusion.testing.conformance.toy import names
from tests.project.tree import ROOT

PAGE = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
KNOWN = dict(names())


@pytest.mark.slow
@pytest.mark.skipif(f"transformers {transformers.__version__};" not in PAGE, reason="made with another transformers")
@pytest.mark.parametrize("name", ["qwen3_vl", "glmga", "kimi_k25", "muse_glimmer", "lfm3_vl"])
def test_the_page_says_what_the_processor_writes(name: str) -> None:
    assert row(name, KNOWN[name]) in PAGE.splitlines()
