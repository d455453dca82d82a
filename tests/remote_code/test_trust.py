"""Code that comes with a checkpoint runs if the user says so, and only then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from framefusion.answer.checkpoint import load_checkpoint
from framefusion.cli.app import run_app
from framefusion.errors import CheckpointError
from framefusion.video import write_clip
from tests.support.remote import STAND_INS
from tests.support.tiny import moving_clip, save_checkpoint


@pytest.fixture
def trap(folders: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint whose code leaves a file behind when it runs, and that file."""
    folder, trace = tmp_path / "trap", tmp_path / "it-ran"
    shutil.copytree(folders["minicpmv"], folder)
    code = folder / "modeling_minicpmv.py"
    code.write_text(f"{code.read_text()}\n\nopen({str(trace)!r}, 'w').close()\n")
    return folder, trace


def test_without_the_flag_nothing_runs(trap):
    folder, trace = trap
    with pytest.raises(CheckpointError, match="--trust-remote-code") as caught:
        load_checkpoint(str(folder))
    assert "minicpmv" in str(caught.value) and not trace.exists()


def test_the_flag_runs_it(trap):
    folder, trace = trap
    assert type(load_checkpoint(str(folder), device="cpu", trust_remote_code=True).model).__name__ == "MiniCPMV"
    assert trace.exists()


def test_the_command_asks_for_the_flag(trap, tmp_path, capsys):
    folder, trace = trap
    video = tmp_path / "clip.mp4"
    write_clip(video, moving_clip(4, 56, 56), fps=4.0)
    assert run_app(["run", str(video), "What?", "--model", str(folder)]) == 2
    seen = capsys.readouterr()
    assert "--trust-remote-code" in seen.err and "Traceback" not in seen.err and not trace.exists()


def test_the_command_says_who_makes_the_prompts_of_such_a_model(folders, tmp_path, capsys):
    video = tmp_path / "clip.mp4"
    write_clip(video, moving_clip(4, 56, 56), fps=4.0)
    assert run_app(["run", str(video), "What?", "--model", str(folders["vila"]), "--trust-remote-code"]) == 2
    seen = capsys.readouterr()
    assert "its own code puts prompts together" in seen.err and "docs/examples.md" in seen.err


def test_code_that_fails_is_named_as_the_cause(folders, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(folders["vila"], folder)
    (folder / "modeling_vila.py").write_text("raise RuntimeError('made for another release')\n")
    with pytest.raises(CheckpointError, match="its own code failed: RuntimeError: made for another release"):
        load_checkpoint(str(folder), trust_remote_code=True)


@pytest.mark.parametrize("name", STAND_INS)
def test_such_families_are_listed_as_unverified(name, capsys):
    assert run_app(["models", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == name)
    assert row["supported"] is False and row["reason"] == "shape-tested, real code unverified"
    assert row["similarity_lower_bound"] == {"minicpmv": 0.7, "vila": 0.7, "internvl_chat": 0.5}[name]


@pytest.mark.parametrize("name", ["internvl", "minicpmv4_6"])
def test_their_successors_use_classes_of_transformers(name):
    """InternVL 3 and MiniCPM-V 4.6 bring no code; the releases before 5.18 may not know the latter yet."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MODELS

    if name not in CONFIG_MAPPING:
        pytest.skip(f"this release of transformers does not know {name}")
    assert name in MODELS


def test_a_checkpoint_without_code_says_where_its_code_is(folders, tmp_path):
    """As NVILA-8B-Video is published: a model type of its own, and nothing that explains it."""
    folder = tmp_path / "codeless"
    shutil.copytree(folders["vila"], folder)
    settings = json.loads((folder / "config.json").read_text())
    settings.pop("auto_map")
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "llava_llama"}))
    for trusted in (False, True):
        with pytest.raises(CheckpointError, match="`llava_llama`, and the checkpoint brings no code") as caught:
            load_checkpoint(str(folder), trust_remote_code=trusted)
        assert "framefusion.reduce" in str(caught.value)


@pytest.mark.parametrize("part", ["processor_config.json", "tokenizer_config.json"])
def test_a_part_that_is_code_is_not_run_either(part, tmp_path):
    """A model of transformers whose processor or tokenizer is the checkpoint's own."""
    folder, trace = tmp_path / "model", tmp_path / "it-ran"
    save_checkpoint("llava", folder)
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    settings = json.loads((folder / part).read_text())
    auto, base = ("AutoProcessor", "Own") if part.startswith("processor") else ("AutoTokenizer", ["own.Own", None])
    name = {"processor_class": "Own"} if part.startswith("processor") else {"tokenizer_class": "Own"}
    settings |= name | {"auto_map": {auto: "own.Own" if base == "Own" else base}}
    (folder / part).write_text(json.dumps(settings))
    try:
        load_checkpoint(str(folder), device="cpu")
    except CheckpointError as error:
        assert "--trust-remote-code" in str(error)
    assert not trace.exists()


@pytest.mark.parametrize("command", ["run", "view", "analyze", "evaluate"])
def test_every_command_that_loads_a_model_has_the_flag(command, capsys):
    assert run_app([command, "--help"]) == 0
    assert "--trust-remote-code" in capsys.readouterr().out
