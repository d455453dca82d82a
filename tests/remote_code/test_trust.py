"""Code that comes with a checkpoint runs if the user says so, and only then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.video import write_clip
from tests.support import original_llava_video
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
    own = {"minicpmv": 0.7, "vila": 0.7, "internvl_chat": 0.5}
    assert row["similarity_lower_bound"] == own.get(name)


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


@pytest.fixture
def never_asks(monkeypatch):
    """transformers asks the terminal where nobody said whether code that comes along may run."""
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("the terminal was asked"))


# Where a checkpoint can name code: file, entry of its auto_map, and the class.
PLACES = {
    "config.json": ("AutoConfig", "AutoModelForImageTextToText", "AutoModel", "AutoModelForCausalLM"),
    "processor_config.json": ("AutoProcessor",),
    "preprocessor_config.json": ("AutoImageProcessor", "AutoProcessor"),
    "video_preprocessor_config.json": ("AutoVideoProcessor",),
    "tokenizer_config.json": ("AutoTokenizer", "AutoProcessor"),
    "generation_config.json": ("AutoConfig",),
}


def plant(folder: Path, trace: Path, file: str) -> None:
    """Code of the checkpoint's own in one of its files."""
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Own: pass\n")
    path = folder / file
    settings = json.loads(path.read_text()) if path.exists() else {}
    auto = {name: ["own.Own", None] if name == "AutoTokenizer" else "own.Own" for name in PLACES[file]}
    named = {"tokenizer_config.json": "tokenizer_class", "processor_config.json": "processor_class"}
    own = {named[file]: "Own"} if file in named else {}
    path.write_text(json.dumps(settings | own | {"auto_map": auto}))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("file", PLACES)
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_video"])
def test_the_terminal_is_never_asked(family, file, trusted, tmp_path, never_asks):
    folder, trace = tmp_path / "model", tmp_path / "it-ran"
    original_llava_video.save(folder) if family == "llava_video" else save_checkpoint(family, folder, layers=1)
    plant(folder, trace, file)
    try:
        load_checkpoint(str(folder), device="cpu", trust_remote_code=trusted)
    except CheckpointError as error:
        assert error.hint
    assert trusted or not trace.exists()


def test_the_flag_runs_the_tokenizer_of_a_llava_video_checkpoint(tmp_path, never_asks):
    folder, trace = tmp_path / "model", tmp_path / "it-ran"
    original_llava_video.save(folder)
    plant(folder, trace, "tokenizer_config.json")
    with pytest.raises(CheckpointError, match="--trust-remote-code"):
        load_checkpoint(str(folder), device="cpu")
    assert not trace.exists()
    with pytest.raises(CheckpointError):  # an empty class is no tokenizer
        load_checkpoint(str(folder), device="cpu", trust_remote_code=True)
    assert trace.exists()


def test_a_tower_that_a_configuration_names_brings_no_code_either(tmp_path, never_asks):
    folder, tower, trace = tmp_path / "model", tmp_path / "siglip-tower", tmp_path / "it-ran"
    original_llava_video.save(folder)
    tower.mkdir()
    settings = json.loads((folder / "config.json").read_text())
    (tower / "config.json").write_text(json.dumps({"model_type": "siglip_vision_model"}))
    plant(tower, trace, "config.json")
    (folder / "config.json").write_text(json.dumps(settings | {"mm_vision_tower": str(tower)}))
    with pytest.raises(CheckpointError):
        load_checkpoint(str(folder), device="cpu")
    assert not trace.exists()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_part_without_a_class_of_transformers_brings_no_code_either(trusted, tmp_path, never_asks):
    """Models make their towers from parts of their configuration, without saying whether code may run."""
    folder, trace = tmp_path / "model", tmp_path / "it-ran"
    save_checkpoint("llava", folder, layers=1)
    settings = json.loads((folder / "config.json").read_text())
    part = {"model_type": classless(), "auto_map": {"AutoModel": f"{folder}--own.Own"}}
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Own: pass\n")
    (folder / "config.json").write_text(json.dumps(settings | {"vision_config": part}))
    with pytest.raises(CheckpointError):
        load_checkpoint(str(folder), device="cpu", trust_remote_code=trusted)
    assert not trace.exists()


def classless() -> str:
    """A type that transformers has a configuration of, and no model."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    return next(name for name in CONFIG_MAPPING if name != "llava" and CONFIG_MAPPING[name] not in MODEL_MAPPING)


@pytest.mark.parametrize("command", ["run", "view", "analyze", "evaluate"])
def test_every_command_that_loads_a_model_has_the_flag(command, capsys):
    assert run_app([command, "--help"]) == 0
    assert "--trust-remote-code" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["minicpmv", "vila"])
def test_a_job_ends_at_a_model_that_makes_its_own_prompts(folders, tmp_path, name):
    """No row of any clip could hold an answer."""
    from framefusion.inference.batch import Job, map_videos
    from framefusion.inference.batch.answerer import Answerer

    def engine(job, tasks):
        answerer = Answerer(job, "cpu")
        for task in tasks:
            yield from answerer.rows(task)

    job = Job(str(folders[name]), trust_remote_code=True)
    clips = [str(tmp_path / f"{number}.mp4") for number in range(2)]
    for clip in clips:
        write_clip(clip, moving_clip(2), fps=2.0)
    with pytest.raises(CheckpointError, match="no prompt can be built"):
        map_videos(job, clips, ["what?"], tmp_path / "answers.jsonl", engine)
    assert not (tmp_path / "answers.jsonl").exists()
