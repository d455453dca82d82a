"""The recorded cases of published functions, and that the runner sees what is not as recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from framefusion.core.registry import methods
from framefusion.testing.__main__ import main as run_command
from framefusion.testing.findings import Findings
from framefusion.testing.published import CHECKS, run_methods
from framefusion.testing.published.cases import Case, notes_of
from framefusion.testing.published.differences import CHOICES

HERE = Path(__file__).parent / "methods"
CASES = {
    f"{method}_{name}": (method, case)
    for method, entry in json.loads((HERE / "index.json").read_text())["methods"].items()
    for name, case in entry["cases"].items()
}
ROWS = {"values", "values_onevision", "values_video", "spatial_values"}
"""Outputs of which one number is changed; of the others, lists of tokens, one entry."""


def changed(tmp_path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None], title: str) -> Path:
    """A folder with one case, changed by `change(index entry, tensors)`."""
    method, case = CASES[title]
    index = json.loads((HERE / "index.json").read_text())["methods"][method]
    case, tensors = dict(case), load_file(HERE / case["file"])
    change(case, tensors)
    folder = tmp_path / "methods"
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / case["file"])
    index = {**index, "cases": {"case0": case}}
    (folder / "index.json").write_text(json.dumps({"methods": {method: index}}))
    return tmp_path


@pytest.mark.parametrize(
    "place", [HERE, HERE.parents[3] / "shared" / "golden" / "methods"], ids=["committed", "shared"]
)
def test_every_case_is_reproduced(place: Path) -> None:
    if not place.is_dir():
        pytest.skip("the full set of golden cases is not beside this clone")
    results = list(run_methods(place))
    assert len(results) >= len(CASES) and all(result.covered for result in results)
    assert [f"{result.case}: {result.problem}" for result in results if not result.passed] == []


@pytest.mark.parametrize(
    ("title", "output"), [(title, output) for title, (_, case) in CASES.items() for output in case["outputs"]]
)
def test_any_other_output_fails_the_command(title: str, output: str, tmp_path: Path) -> None:
    def other(case: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        recorded = tensors[output].clone()
        if recorded.is_floating_point():
            recorded.view(-1)[0] += 0.01
        elif output == "frames_compared":
            recorded = torch.arange(int(recorded.max()) + 1)
        else:
            # A list of tokens names one that it does not hold; a list of numbers has one more.
            missing = [number for number in range(recorded.numel() + 2) if number not in recorded.tolist()]
            recorded.view(-1)[0] = (
                missing[0] if recorded.unique().numel() == recorded.numel() else recorded.view(-1)[0] + 1
            )
        tensors[output] = recorded

    folder = changed(tmp_path, other, title)
    assert run_command([str(folder)]) == 1


def test_a_method_that_is_not_covered_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = changed(tmp_path, lambda case, tensors: None, "fastervlm_case0")
    index = json.loads((folder / "methods" / "index.json").read_text())
    index["methods"]["unheard_of"] = index["methods"].pop("fastervlm")
    (folder / "methods" / "index.json").write_text(json.dumps(index))
    assert run_command([str(folder)]) == 0
    assert "not covered" in capsys.readouterr().out


def test_a_broken_case_is_a_failed_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = changed(tmp_path, lambda case, tensors: tensors.pop("attention"), "holov_case0")
    assert run_command([str(folder)]) == 1
    assert "attention" in capsys.readouterr().out


def test_what_differs_by_choice_is_printed_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([str(HERE)]) == 0
    printed = capsys.readouterr().out
    assert "sttm: strict=False: strict=False differs from the released union" in printed
    for method in {method for method, _ in CASES.values()}:
        for name in CHOICES.get(method, ()):
            assert f"  {method}: {name}: " in printed


def test_a_difference_that_nobody_declared_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CHOICES["sttm"], "strict=False")  # type: ignore[arg-type]
    assert run_command([str(HERE)]) == 1


def lone_cluster(centre: int, step: float = 0.0) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Options and recording of a still clip of six places in one cluster around the place `centre`."""
    places = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    others = places[torch.arange(6) != centre].mean(0)
    tensors = {
        "hidden": places.repeat(2, 1),
        "attention": torch.ones(12) / 12,
        "values": (0.6 * places[centre] + 0.4 * others + step)[None],
        "windows": torch.tensor([[0, 2]]),
        "share": torch.tensor([1 / 6]),
    }
    return {"keep": 1 / 12, "tau": 0.8, "beta": 0.6}, tensors


@pytest.mark.parametrize("centre", [0, 4])
def test_the_centre_of_a_lone_cluster_is_a_declared_tie(centre: int) -> None:
    found = Findings()
    options, tensors = lone_cluster(centre)
    CHECKS["holitom_outer"](Case(options, tensors, ("2 x 2x3",)), found)
    assert found.problems == [] and found.choices["noise"] == (centre > 0)


def test_another_value_of_a_lone_cluster_is_none() -> None:
    found = Findings()
    options, tensors = lone_cluster(4, step=0.1)
    CHECKS["holitom_outer"](Case(options, tensors, ("2 x 2x3",)), found)
    assert found.problems


def test_only_methods_are_covered_and_declared() -> None:
    shown = set(methods)
    assert set(CHECKS) <= shown and set(CHOICES) <= set(CHECKS)


def test_grids_are_found_in_the_notes() -> None:
    notes = notes_of("case1", {}, "grid 8 x 8x8 (case1: 6 x 6x5)")
    assert notes == ("6 x 6x5", "grid 8 x 8x8 ")

    def grid(notes: tuple[str, ...], count: int, frames: int | None = None) -> tuple[int, int, int]:
        geometry = Case({}, {"hidden": torch.zeros(count, 1)}, notes).clip(frames)
        return tuple(int(part.max()) + 1 for part in (geometry.frame, geometry.row, geometry.column))  # type: ignore

    assert grid(notes, 180) == (6, 6, 5)
    assert grid(notes, 128) == (2, 8, 8)
    assert grid((), 98, 2) == (2, 7, 7)
    assert grid((), 10, 2) == (2, 1, 5)
