"""Every row of the committed table, executed again."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import pytest
import transformers

from framefusion.models.pixel_range import PUBLISHED
from framefusion.models.table import read_table, table_version
from framefusion.testing.conformance.contract import OWN_FAULT, judge
from framefusion.testing.conformance.encoding import EXACT, NOT_RUN, encoding
from framefusion.testing.conformance.page import page
from framefusion.testing.conformance.toy import build, names
from tests.project.tree import ROOT

TABLE = read_table()
KNOWN = dict(names())
SAME = transformers.__version__ == table_version()


@pytest.mark.parametrize("name", sorted({*TABLE, *KNOWN}))
def test_the_family_does_what_the_table_says(name: str) -> None:
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    if name not in TABLE:
        assert not SAME, "run python -m framefusion.testing.conformance"
        pytest.skip(f"{name} is newer than the table")
    try:
        model = build(name, KNOWN[name])
    except ImportError as error:
        pytest.skip(f"{name} needs a package that is not installed: {str(error).strip().splitlines()[0]}")
    except (AttributeError, ValueError) as error:
        if SAME:
            raise
        pytest.skip(f"transformers {transformers.__version__} builds no small {name}: {str(error)[:80]}")
    row = judge(name, KNOWN[name], model)
    if SAME:
        assert row == replace(TABLE[name], video="", stills="", encoding="")
    elif any(told.reason.startswith(OWN_FAULT) for told in (row, TABLE[name])):
        pytest.skip(f"{name} does not run in every release: {row.reason or TABLE[name].reason}")
    else:  # another release may have pictures of another shape, or no place between attention and MLP
        assert row.supported == TABLE[name].supported
        assert bool(row.points) == row.supported and bool(row.reason) != row.supported


PIXELS = [name for name, row in TABLE.items() if row.encoding == EXACT]


@pytest.mark.parametrize("name", [*PIXELS, "idefics3", "mistral3"])
def test_the_tower_leaves_out_what_the_table_says(name: str) -> None:
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    found = encoding(name, KNOWN[name])
    assert found == TABLE[name].encoding or (found == NOT_RUN and not SAME)


def test_every_named_family_is_in_the_table() -> None:
    assert set(PUBLISHED) - set(PIXELS) <= {"llava_qwen"} and len(PIXELS) >= 13


def test_enough_families_pass_and_the_others_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    passed = [row.name for row in TABLE.values() if row.supported]
    excluded = [row for row in TABLE.values() if not row.supported]
    with capsys.disabled():
        print(f"\n{len(passed)} families keep the contract: {', '.join(passed)}")
        print(f"{len(excluded)} are left out:")
        print("\n".join(f"  {row.name}: {row.reason}" for row in excluded))
    assert len(passed) >= 75
    assert all(row.points[:2] == ("prompt", "before a layer") for row in TABLE.values() if row.supported)
    assert all(row.reason and not row.points for row in excluded)


def test_the_page_is_the_one_the_table_makes() -> None:
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == page(TABLE)


def test_the_table_travels_with_the_package() -> None:
    assert resources.files("framefusion.models").joinpath("conformance.json").is_file()
