"""What `framefusion doctor` says of this installation, of older and newer releases, and of broken ones."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import transformers  # noqa: F401

from framefusion.cli.app import run_app
from framefusion.core.installed import TESTED
from framefusion.inference import reduction
from framefusion.inference.doctor import diagnose, extras, selfcheck, versions
from framefusion.inference.doctor.versions import Requirement
from tests.project.tree import ROOT

NEWER = "5.99.0"


def state_of(name: str = "transformers") -> versions.Release:
    return next(release for release in versions.all_releases() if release.name == name)


def pretend(monkeypatch: pytest.MonkeyPatch, metadata: str | None, code: str | None = None) -> None:
    """transformers in another release. code: what its module says, by default the same."""
    real = versions.version_of
    monkeypatch.setattr(versions, "version_of", lambda name: metadata if name == "transformers" else real(name))
    if metadata is not None:
        # Other tests import it anew, so that the module known here may be another one.
        monkeypatch.setattr(sys.modules["transformers"], "__version__", code or metadata)


def test_this_installation_is_good() -> None:
    found = diagnose()
    assert [check.name for check in found.checks] == list(selfcheck.CHECKS)
    assert all(check.passed for check in found.checks), found.checks
    assert found.verdict != "broken"
    assert found.devices[0].name == "cpu" and found.kernels and found.extras


@pytest.mark.parametrize(
    ("release", "state", "rounds"),
    [
        ("5.16.2", "too old", True),
        ("5.17.0", "tested", True),
        ("5.22.1", "tested", True),
        ("5.23.0", "tested", False),
        ("5.24.3", "tested", False),
        (NEWER, "newer than tested", False),
        ("6.0.0.dev0", "newer than tested", False),
    ],
)
def test_releases_of_transformers(release: str, state: str, rounds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, release)
    found = state_of()
    assert (found.installed, found.state) == (release, state)
    assert ("rounds the seconds" in found.remark) == rounds
    verdict = diagnose(try_it=False)
    wanted = {"too old": "broken", "tested": "good", "newer than tested": "untested"}[state]
    others = [reason for reason in verdict.why if not reason.startswith("transformers")]
    assert others or verdict.verdict == wanted
    assert any(release in reason for reason in verdict.why) == (wanted != "good")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, None)
    found = diagnose(try_it=False)
    assert found.verdict == "broken" and any(reason.startswith("transformers is missing") for reason in found.why)


def test_two_releases_of_one_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "5.20.0", "5.24.0")
    assert state_of().state == "contradictory" and "5.20.0" in state_of().remark and "5.24.0" in state_of().remark
    for metadata, code in ((NEWER, "5.24.0"), ("5.24.0", NEWER)):
        pretend(monkeypatch, metadata, code)
        assert state_of().state == "newer than tested" and state_of().installed == NEWER
        assert "installed twice" in state_of().remark


def test_a_newer_release_that_moved_a_name_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    from framefusion.engine.model import releases

    pretend(monkeypatch, NEWER)
    monkeypatch.setattr(releases, "CACHE_METHODS", (*releases.CACHE_METHODS, "renamed_in_a_later_release"))
    found = diagnose()
    assert found.verdict == "broken"
    assert any("renamed_in_a_later_release" in reason for reason in found.why)


def keeps_everything_almost(real):
    @contextmanager
    def spoiled(model, method, **more) -> Iterator[None]:
        handle = model.lm_head.register_forward_hook(lambda _, __, output: output * (1 + 1e-6))
        try:
            with real(model, method, **more) as inner:
                yield inner
        finally:
            handle.remove()

    return spoiled


def test_a_reduction_that_changes_a_bit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "reduce", keeps_everything_almost(reduction.reduce))
    found = {check.name: check for check in selfcheck.run_checks()}
    assert found["identity"].passed is False and "differ by" in found["identity"].detail
    assert found["undo"].passed


def test_a_refusal_that_does_not_fire_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "_claim", lambda *_: None)
    found = {check.name: check for check in selfcheck.run_checks()}
    assert found["refusals"].passed is False


def test_a_row_that_depends_on_others_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = selfcheck._padded

    def seen_through(prompts, pad):
        batch = real(prompts, pad)
        batch["attention_mask"] = batch["attention_mask"] * 0 + 1
        return batch

    monkeypatch.setattr(selfcheck, "_padded", seen_through)
    found = {check.name: check for check in selfcheck.run_checks()}
    assert found["batch"].passed is False and "alone and in a batch" in found["batch"].detail


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this tree declares, whatever the installed copy was made of."""
    lines = list(PROJECT["dependencies"])
    for name, packages in PROJECT["optional-dependencies"].items():
        lines += [f"{package.partition(';')[0]}; extra == '{name}'" for package in packages]
    monkeypatch.setattr(versions, "requires", lambda _: lines)


def test_every_extra_of_a_user_is_told(declared: None) -> None:
    assert set(extras.FOR) | {"dev", "tests", "site"} >= set(PROJECT["optional-dependencies"])
    assert set(extras.FOR) <= set(PROJECT["optional-dependencies"])
    needed = {line.partition(">")[0] for line in PROJECT["dependencies"]}
    assert {release.name for release in versions.all_releases()} == {"python", "framefusion", *needed}


def test_what_extras_miss(declared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "version_of", lambda name: {"filelock": "4.3.1"}.get(name))
    found = {extra.name: extra.missing for extra in extras.all_extras()}
    assert "matplotlib" in found["plot"]
    assert "filelock>=3.12,<4 (here: 4.3.1)" in found["lmms"]
    assert "framefusion" not in found["ray"] and "pyarrow" in found["parquet"]


def test_ends_of_requirements() -> None:
    assert Requirement("x", "3.12", "4").admits("3.12.0") and not Requirement("x", "3.12", "4").admits("4.0")
    assert not Requirement("x", "3.12").admits("3.9") and Requirement("x").admits("0.1")
    assert versions.numbers("5.24.1.dev0") == (5, 24, 1) and versions.numbers("unknown") == ()


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_app(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"verdict", "releases", "devices", "kernels", "extras", "checks", "system", "why"} == set(found)
    pretend(monkeypatch, NEWER)
    assert run_app(["doctor", "--no-check"]) == 0
    seen = capsys.readouterr().out
    assert "untested" in seen and NEWER in seen and f"{TESTED[0]} to {TESTED[1]}" in seen
    pretend(monkeypatch, "5.1.0")
    assert run_app(["doctor", "--no-check"]) == 2
    assert "too old" in capsys.readouterr().out
