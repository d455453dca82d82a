"""The page on writing a method: its example runs as printed, in Python and behind `--method`."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.core.errors import PluginError
from framefusion.core.layout import PATCH
from framefusion.core.registry import method_at
from framefusion.testing import methods as contract

CLIP = Path(ff.__file__).parent / "cli" / "demo_clip" / "example.mp4"
PAGE = Path(__file__).parents[2] / "docs/write-a-method.md"
EXAMPLE_CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "largest_norm.py").write_text(EXAMPLE_CODE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def cls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = spec_from_file_location("largest_norm", folder / "largest_norm.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "largest_norm", module)
    spec.loader.exec_module(module)
    return module.LargestNorm


def test_the_example_is_short() -> None:
    assert len([line for line in EXAMPLE_CODE.splitlines() if line.strip()]) <= 15


def test_the_example_holds_what_is_promised_of_a_method(cls: type[ff.Method]) -> None:
    checks = ("facts", "identity", "count", "order", "determinism", "inputs_are_left_alone", "half_precision")
    for check in checks:
        getattr(contract, f"check_{check}")(cls)


def test_the_example_keeps_the_highest_scores(cls: Any) -> None:
    row = next(contract.rows())
    (_, plan), *_ = contract.walk(cls(keep=3), row).plans
    patches, score = row.geometry.kind == PATCH, row.hidden.float().norm(dim=-1)
    for clip in row.geometry.clip.unique():
        mine = patches & (row.geometry.clip == clip)
        best = score.masked_fill(~mine, -1.0).topk(3).indices
        assert set(best.tolist()) == set(plan.keep.tolist()) & set(mine.nonzero().flatten().tolist())


@pytest.mark.slow
def test_the_command_line_of_the_page(folder: Path) -> None:
    line = re.search(r"\$ (framefusion run .*)", PAGE.read_text(encoding="utf-8"))
    assert line
    words = re.findall(r'"[^"]*"|\S+', line[1])[1:]
    words = [str(CLIP) if word == "clip.mp4" else word.strip('"') for word in words]
    ran = subprocess.run([sys.executable, "-m", "framefusion", *words], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "512 -> 256" in ran.stderr


@pytest.mark.parametrize(
    "reference", ["no_such_module:Method", "json:dumps", "json:JSONDecoder", "json:Nothing", "json:", ":Method"]
)
def test_what_is_no_method_is_told(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PluginError, match="there is no method at"):
        method_at(reference)
    assert run_app(["run", str(CLIP), "why?", "--method", reference]) == 2
    assert "hint" in capsys.readouterr().err


def test_names_of_requests_and_settings_import_nothing() -> None:
    from framefusion.core.errors import UnknownNameError
    from framefusion.core.registry import configure

    with pytest.raises(UnknownNameError):
        configure("json:JSONDecoder", {})
