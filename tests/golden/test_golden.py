"""The published code's recorded cases: those committed here and, where at hand, the full set beside the clone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from framefusion.testing.__main__ import main as run_command
from framefusion.testing.golden import RUNNERS, run_folder

HERE = Path(__file__).parent
SHARED = HERE.parents[1].parent / "shared" / "golden"


@pytest.mark.parametrize("folder", [HERE, SHARED], ids=["committed", "shared"])
def test_every_case_is_reproduced(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip("the full set of golden cases is not beside this clone")
    results = [result for result in run_folder(folder) if result.covered]
    assert len(results) >= 5
    assert [f"{result.case}: {result.problem}" for result in results if not result.passed] == []


def test_some_committed_cases_merge_in_several_layers_and_then_prune() -> None:
    cases = json.loads((HERE / "qwen2_index.json").read_text())
    assert sum(len(case["sparsity_list"]) >= 2 for case in cases) >= 3


def test_a_wrong_number_fails_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    for file in HERE.glob("qwen2*"):
        shutil.copy(file, tmp_path)
    assert run_command([str(tmp_path)]) == 0
    capsys.readouterr()
    broken = tmp_path / "qwen2_case5.safetensors"
    tensors = load_file(broken)
    tensors["last_logits"][0, 0] += 0.01
    save_file(tensors, broken)
    assert run_command([str(tmp_path)]) == 1
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("qwen2_case5"))
    assert row.split()[-1] == "NO"


def test_a_folder_without_cases_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([str(tmp_path)]) == 2
    assert "no golden cases" in capsys.readouterr().err


def test_the_covered_kinds() -> None:
    assert {"qwen2", "qwen2vl"} <= set(RUNNERS)
