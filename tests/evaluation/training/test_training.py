"""Training a reducer: what learns, what stays, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.cli.options import build_method
from framefusion.core.errors import OptionError
from framefusion.evaluation.shared_tower import shared_tower
from framefusion.evaluation.training import Settings, examples, run, train, trainer
from framefusion.evaluation.training.course import Drawn, read_course
from framefusion.evaluation.training.examples import Examples, Remembering
from framefusion.evaluation.training.recipes import Recipe, recipe_for
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import write_clip
from tests.support.tiny import save_checkpoint

pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate, an optional extra")
QUICK = ["--steps", "4", "--batch", "2", "--score", "0", "--set", "layers=1,2", "--json"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint("qwen2_5_vl", folder)
    return str(folder)


def command(model: str, out: Path, *more: str, method: str = "atp_llava") -> list[str]:
    return ["train", method, "--model", model, "--out", str(out), *QUICK, *more]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for number in range(4):
        write_clip(folder / f"{number}.mp4", np.full((4, 56, 56, 3), 40 * number, np.uint8), fps=4)
        lines.append(json.dumps({"video": f"{number}.mp4", "question": "which one?", "answer": str(number)}))
    (folder / "questions.jsonl").write_text("\n".join([*lines, ""]))
    return folder


class Counted:
    """A function that counts how often it is called in this process."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **given: Any) -> Any:
        self.calls += 1
        return self.function(*args, **given)


def numbers(folder: Path) -> dict[str, torch.Tensor]:
    return ff.load_reducer(folder).weights.module.state_dict()


@pytest.mark.slow
def test_a_reducer_is_trained_on_a_list_and_the_model_is_not(model, data, tmp_path, capsys):
    before = Path(model, "model.safetensors").read_bytes()
    assert run_app(command(model, tmp_path / "out", "--data", str(data), "--frames", "4", "--score", "5")) == 0
    done = json.loads(capsys.readouterr().out)
    trained = ff.load_reducer(tmp_path / "out")
    assert done["method"] == {"name": "atp_llava", **json.loads(json.dumps(trained.options()))}
    fresh = trained.untrained(trained.weights.shape, seed=1).weights.module.state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in numbers(tmp_path / "out").items())
    assert Path(model, "model.safetensors").read_bytes() == before
    assert done["scores"]["questions"] == 1 and set(done["scores"]) == {"questions", "dense", "atp_llava"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| steps | 4 |" in card and f"numbers trained | {done['trainable']}" in card


@pytest.mark.slow
def test_a_training_that_was_killed_ends_with_the_same_weights(model, tmp_path, capsys):
    assert run_app(command(model, tmp_path / "whole")) == 0
    out = tmp_path / "parts"
    script = (
        "import os, signal, sys\n"
        "from framefusion.evaluation.training import trainer\n"
        "end = trainer.Progress.on_step_end\n"
        "def step(self, args, state, control, **more):\n"
        "    if state.global_step == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    control.should_save = True\n"
        "    end(self, args, state, control, **more)\n"
        "trainer.Progress.on_step_end = step\n"
        "from framefusion.cli.app import run_app\n"
        "run_app(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, *command(model, out)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (out / "reducer_config.json").exists()
    # What a kill in the middle of a save leaves is passed over.
    (out / "checkpoints" / "checkpoint-3").mkdir()
    assert run_app(command(model, out)) == 0
    for name, value in numbers(out).items():
        assert torch.equal(value, numbers(tmp_path / "whole")[name]), name


@pytest.mark.slow
def test_an_interrupt_saves_and_the_same_command_goes_on(model, tmp_path):
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "framefusion", *command(model, out, "--steps", "500", "--batch", "1")]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, env=os.environ, start_new_session=True, **pipes) as process:
        while process.poll() is None and not list(out.glob("checkpoints/checkpoint-20")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the process that prepares batches as well
        told = process.communicate()[1].decode()
    assert process.returncode == 130 and "the same command goes on" in " ".join(told.split())
    assert "Traceback" not in told
    from framefusion.evaluation.training.trainer import last_state

    assert int(str(last_state(out)).rpartition("-")[2]) >= 20 and not (out / "reducer_config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("part", "other"), [("attention", False), ("all", True)])
def test_adapters_learn_under_a_method_that_learns_nothing(part, other, model, tmp_path, capsys):
    pytest.importorskip("peft", reason="adapters need peft, an optional extra")
    out = tmp_path / "out"
    arguments = ["train", "uniform", "--keep", "0.5", "--model", model, "--out", str(out), "--lora", "2"]
    assert run_app([*arguments, "--lora-on", part, "--steps", "2", "--batch", "2", "--score", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] > 0
    from safetensors.torch import load_file

    state = load_file(out / "adapter" / "adapter_model.safetensors")
    assert any(name.endswith("lora_B.weight") and bool(value.any()) for name, value in state.items())
    assert any("mlp" in name for name in state) == other and not any("visual" in name for name in state)


def test_examples_are_the_prompt_the_answer_and_labels_on_the_answer_alone(model):
    checkpoint = ff.load_checkpoint(model, device="cpu")
    checkpoint.model.generation_config.eos_token_id = 7
    examples = Examples(checkpoint, Drawn(12, 1), frames=32)
    first, other = examples[0], examples[8]
    wanted = checkpoint.processor.tokenizer(examples.course.example(0).answer, add_special_tokens=False)["input_ids"]
    assert first["labels"][first["labels"] != -100].tolist() == [*wanted, 7]
    assert first["input_ids"][0, -len(wanted) - 1 :].tolist() == [*wanted, 7]
    batch = examples.collate([first, other])
    for number, one in enumerate((first, other)):
        length = one["input_ids"].shape[1]
        assert torch.equal(batch["input_ids"][number, :length], one["input_ids"][0])
        assert batch["attention_mask"][number].sum() == length
        assert bool((batch["labels"][number, length:] == -100).all())
    assert len(batch["pixel_values_videos"]) == 2 * len(first["pixel_values_videos"])


def test_a_drawn_example_is_the_same_by_itself():
    one, again = Drawn(40, 1).example(17), Drawn(400, 1).example(17)
    assert one.question == again.question and np.array_equal(one.clip(32).frames, again.clip(32).frames)
    assert not np.array_equal(one.clip(32).frames, Drawn(40, 2).example(17).clip(32).frames)


def test_one_clip_is_asked_several_questions_one_in_each_of_as_many_batches():
    course = Drawn(24, 1, questions=3, rows=2)
    asked = [course.example(number) for number in range(24)]
    for block in range(0, 24, 6):
        first, other = asked[block], asked[block + 1]
        assert all(asked[block + step].media is first.media for step in (0, 2, 4))
        assert all(asked[block + step].media is other.media for step in (1, 3, 5))
    assert asked[0].media is not asked[1].media and asked[0].media is not asked[6].media
    assert len({asked[step].question for step in (0, 2, 4)}) == 3
    alone = Drawn(24, 1).example(1)
    assert (alone.question, alone.answer) == (asked[1].question, asked[1].answer)


@pytest.mark.slow
def test_the_tower_encodes_a_clip_once_for_all_its_questions(model, tmp_path, monkeypatch):
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel as Tower

    encoded, built = Counted(Tower.forward), Counted(build_prompt)
    monkeypatch.setattr(Tower, "forward", lambda *args, **given: encoded(*args, **given))
    monkeypatch.setattr(examples, "build_prompt", built)
    checkpoint = ff.load_checkpoint(model, device="cpu")
    checkpoint.model.generation_config.eos_token_id = 7
    settings, weights = Settings(steps=4, batch=2, score=0, questions=2), {}
    for name, cores, calls in (("shared", 1, (2, 8)), ("beside", 2, (2, 0)), ("apart", 1, (4, 8))):
        monkeypatch.setattr(trainer, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(run, "shared_tower", shared_tower if name != "apart" else lambda *a, **b: nullcontext())
        encoded.calls = built.calls = 0
        train(checkpoint, ff.LLaVAMini(prefusion=1, heads=2), Drawn(8, 1, 2, 2), tmp_path / name, settings)
        weights[name] = numbers(tmp_path / name)
        assert (encoded.calls, built.calls) == calls, name
    for name, value in weights["shared"].items():
        assert torch.equal(value, weights["beside"][name]) and torch.equal(value, weights["apart"][name]), name


def test_pixels_of_the_same_clips_are_the_same_tensors_again():
    remembering = Remembering()

    def batch(*clips: int, question: int = 0) -> dict:
        pixels = torch.tensor(clips).float()
        return remembering({"input_ids": torch.tensor([question]), "pixel_values": pixels, "clip": [*clips]})

    first, again, other = batch(1, 2), batch(1, 2, question=5), batch(2, 1)
    assert again["pixel_values"] is first["pixel_values"] and again["input_ids"] == 5
    assert other["pixel_values"].tolist() == [2.0, 1.0] and "clip" not in other
    unnamed = {"pixel_values": torch.ones(1)}
    assert remembering(unnamed)["pixel_values"] is not remembering({"pixel_values": torch.ones(1)})["pixel_values"]


def test_what_is_left_out_comes_from_the_recipe_of_the_embedded_model():
    recipe = recipe_for("vqtoken", "framefusion/tiny")
    assert (
        recipe.options["keep"] and recipe_for("vqtoken", "other") == recipe_for("fastv", "framefusion/tiny") == Recipe()
    )
    built = build_method("vqtoken", None, recipe.words("vqtoken", None, ["spans=4"]))
    assert (built.spans, str(built.keep)) == (4, recipe.options["keep"])
    assert build_method("vqtoken", 7, recipe.words("vqtoken", 7, [])).keep == 7
    assert build_method("vqtoken", None, recipe.words("vqtoken", None, ["keep=9"])).keep == 9
    told = recipe.completed({"steps": 5, "rate": None})
    assert told["steps"] == 5 and told["rate"] == recipe.settings["rate"]


@pytest.mark.slow
def test_an_adapter_becomes_part_of_the_reducer(model, tmp_path, capsys, monkeypatch):
    pytest.importorskip("peft", reason="adapters need peft, an optional extra")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert run_app(command(model, out, "--lora", "2", "--bits", "16", "--rate", "0.1")) == 0
    capsys.readouterr()
    found = ff.load_reducer(out)
    assert found.weights.adapter is not None
    assert all(bool(up.any()) for _, up in found.weights.adapter.factors.values())
    checkpoint = ff.load_checkpoint(model, device="cpu")
    prompt = Examples(checkpoint, Drawn(1, 1), 32)[0]
    del prompt["labels"]
    with torch.no_grad(), ff.reduce(checkpoint.model, found):
        own = checkpoint.model(**prompt).logits
    from peft import PeftModel

    whole = PeftModel.from_pretrained(checkpoint.model, out / "adapter")
    with torch.no_grad(), ff.reduce(whole, found.with_adapter(None)):
        torch.testing.assert_close(whole(**prompt).logits, own, atol=2e-2, rtol=2e-2)


@pytest.mark.slow
def test_a_reducer_made_for_one_count_is_evaluated_at_that(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    own = ["--set", "prefusion=1", "--set", "heads=2"]
    assert run_app(["train", "llava_mini", "--model", model, "--out", str(out), *QUICK[:6], *own]) == 0
    capsys.readouterr()
    asked = ["evaluate", "--model", model, "--reducer", str(out), "--samples", "2", "--kinds", "colour,needle"]
    small = ["--max-new-tokens", "2", "--compare", "random", "--json"]
    for more in ([], ["--keep", "1"], ["--cost", "0.5"]):
        assert run_app([*asked, *more, *small]) == 0
        method, control = json.loads(capsys.readouterr().out)["entries"]
        assert method["options"]["side"] == 1 and abs(method["cost"] - control["cost"]) < 0.01
    assert run_app([*asked, "--keep", "2", *small]) == 2
    assert "made with side = 1, not 2" in " ".join(capsys.readouterr().err.split())


LINES = {
    "no JSON": "{",
    "a list": "[1]",
    "no answer": '{"video": "a.mp4", "question": "q"}',
    "an empty answer": '{"video": "a.mp4", "question": "q", "answer": " "}',
    "an answer that is a number": '{"video": "a.mp4", "question": "q", "answer": 3}',
    "a video that is not there": '{"video": "b.mp4", "question": "q", "answer": "a"}',
    "a name that is none": '{"video": "\\u0000", "question": "q", "answer": "a"}',
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_is_no_example_is_named(tmp_path, kind):
    (tmp_path / "a.mp4").write_bytes(b"x")
    good = '{"video": "a.mp4", "question": "q", "answer": "a"}'
    (tmp_path / "train.jsonl").write_text(f"{good}\n\n{LINES[kind]}\n")
    with pytest.raises(OptionError, match="line 3 of") as caught:
        read_course(str(tmp_path), 1, 1)
    assert caught.value.why and caught.value.hint


@pytest.mark.parametrize("data", ["nothing/here", "", "a\0b", "x" * 5000])
def test_data_that_is_not_there_is_refused(data):
    with pytest.raises(OptionError, match="there is no data"):
        read_course(data, 1, 1)


def test_what_cannot_be_trained_is_refused_before_a_model_is_loaded(tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    never = ["--model", str(tmp_path / "none")]
    for arguments, told in (
        (["uniform", "--out", str(tmp_path / "o")], "nothing to learn"),
        (["nothing", "--out", str(tmp_path / "o")], "no method named"),
        (["atp_llava", "--out", str(full / "mine.txt")], "cannot write into"),
        (["atp_llava", "--out", str(tmp_path / "o"), "--steps", "0"], "steps"),
        (["atp_llava", "--out", str(tmp_path / "o"), "--data", str(tmp_path / "no")], "no data"),
    ):
        assert run_app(["train", *arguments, *never]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


def test_a_folder_with_something_else_is_left_alone(model, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert run_app(command(model, tmp_path)) == 2
    assert "holds files, but no training" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "training.json").write_text(json.dumps({"method": "atp_llava", "steps": 9}))
    assert run_app(command(model, tmp_path)) == 2
    assert "other settings" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_reducer_is_evaluated_and_asked_by_its_folder(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert run_app(command(model, out, "--keep", "0.5")) == 0
    capsys.readouterr()
    asked = ["evaluate", "--model", model, "--reducer", str(out), "--samples", "4", "--kinds", "colour,needle"]
    small = ["--max-new-tokens", "2", "--compare", "random", "--json"]
    assert run_app([*asked, "--method", "atp_llava", "--keep", "0.7", *small]) == 0
    entry = json.loads(capsys.readouterr().out)["entries"][0]
    assert (
        entry["options"]["layers"] == [1, 2]
        and entry["options"]["weights"] == ff.load_reducer(out).options()["weights"]
    )
    assert run_app([*asked, "--set", "temperature=5", "--set", "keep=0.5", *small]) == 0
    entry = json.loads(capsys.readouterr().out)["entries"][0]
    assert (entry["method"], entry["options"]["temperature"]) == ("atp_llava", 5.0)
    assert run_app([*asked, "--method", "fastv", *small]) == 2
    assert "holds ATP-LLaVA, not FastV" in " ".join(capsys.readouterr().err.split())
    assert run_app(["evaluate", "--model", model, "--method", "atp_llava", "--samples", "12", *small]) == 2
    assert "has no weights" in " ".join(capsys.readouterr().err.split())
