"""The yardstick with pretrained halves: what is asked is so, packing changes nothing, all of it on stand-ins."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from framefusion.cli.app import run_app
from framefusion.core.destination import cache_folder
from framefusion.core.errors import CheckpointError, OptionError
from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import Clip
from tests.training.small_halves import PLAIN, grounds, save_halves, save_stamps
from training.pretrained.build import Plan, build
from training.pretrained.card import Row, card
from training.pretrained.features import features_of
from training.pretrained.halves import SIDE, join, processor_of
from training.pretrained.learner import Lessons, Projector, new_learner
from training.pretrained.packing import Words, collate, pack
from training.pretrained.questions import KINDS, PLACES, PLOTS_OF, Question, choices, questions
from training.pretrained.scene import CELL, DIRECTIONS, FRAMES, PLOTS, TRAINED_ON, draw_scene, render
from training.pretrained.stages import Stage
from training.pretrained.stamps import COLOURS, colour_of, read_album

SEEDS = range(40)


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> tuple[Path, Path]:
    return save_halves(tmp_path_factory.mktemp("halves"))


@pytest.fixture(scope="module")
def stamps(tmp_path_factory) -> Path:
    return save_stamps(tmp_path_factory.mktemp("stamps"))


@pytest.fixture(scope="module")
def album(stamps, tmp_path_factory):
    return read_album(stamps, tmp_path_factory.mktemp("album"))


# Halves.


def check_joined(tower_folder: Path, language_folder: Path) -> None:
    """Every weight is that of the halves, and text alone is answered as by the bare language model."""
    from transformers import AutoModel, AutoModelForCausalLM

    model = join(tower_folder, language_folder, torch.float32)
    bare = AutoModelForCausalLM.from_pretrained(language_folder, dtype=torch.float32).eval()
    tower = AutoModel.from_pretrained(tower_folder, dtype=torch.float32).state_dict()
    own = model.model.vision_tower.state_dict()
    assert own.keys() == tower.keys() and all(torch.equal(own[name], tower[name]) for name in tower)
    ids = processor_of(language_folder, 14).tokenizer("Which animal says moo?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, bare(input_ids=ids).logits)


def test_both_halves_are_loaded_strictly(halves):
    check_joined(*halves)


@pytest.mark.slow
def test_so_are_the_pretrained_halves():
    folders = cache_folder() / "vit-s14", cache_folder() / "smollm2-135m"
    if not all((folder / "model.safetensors").exists() for folder in folders):
        pytest.skip("the pretrained halves are not in the cache; `python -m training.pretrained` fetches them")
    check_joined(*folders)


def test_a_half_that_lacks_a_weight_is_refused(halves, tmp_path):
    from safetensors.torch import save_file

    state = load_file(halves[1] / "model.safetensors")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((halves[1] / name).read_bytes())
    assert state.pop("model.norm.weight") is not None
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"norm\.weight"):
        join(halves[0], tmp_path)


# Scenes.


def test_a_seed_has_one_scene_and_training_shows_nothing_of_the_test(album):
    ground = grounds()
    for seed in SEEDS:
        scene = draw_scene(seed, album, ground, FRAMES, held_out=False)
        assert scene == draw_scene(seed, album, ground, FRAMES, held_out=False)
        assert not any(album.stamps[thing.stamp].held_out for thing in scene.things)
        border = round(TRAINED_ON * 40)
        assert scene.ground[1] + FRAMES <= border
        other = draw_scene(seed, album, ground, FRAMES, held_out=True)
        assert all(album.stamps[thing.stamp].held_out for thing in other.things) and other.ground[1] >= border
    named = [draw_scene(seed, album, ground, 1, True, "single", named=True) for seed in SEEDS]
    assert {album.stamps[scene.things[0].stamp].name for scene in named} == set(album.names) == {"owl", "duck", "crow"}


def seen_at(scene, album, ground) -> list[tuple[float, float] | None]:
    """Middle of what is shown in front of the clip, frame by frame; None where nothing is."""
    shown = render(scene, album, ground).astype(int)
    bare = render(replace(scene, things=()), album, ground).astype(int)
    places = [np.argwhere(np.abs(a - b).sum(-1) > 60) for a, b in zip(shown, bare, strict=True)]
    return [tuple((found.min(0) + found.max(0)) / 2) if len(found) else None for found in places]


@pytest.mark.parametrize("plot", PLOTS)
def test_what_is_asked_is_so(album, plot):
    ground = grounds()
    asked = 0
    for seed in range(12):
        scene = draw_scene(seed, album, ground, FRAMES, False, plot)
        by_text = {(one.kind, one.text): one.answer for one in questions(scene, album)}
        asked += len(by_text)
        assert all(answer in choices(kind, album) for (kind, _), answer in by_text.items())
        for thing in scene.things:
            places = seen_at(replace(scene, things=(thing,)), album, ground)
            word = "it" if len(scene.things) == 1 else f"the {album.stamps[thing.stamp].group}"
            at = [place for place in places if place is not None]
            assert len(at) == thing.last - thing.first + 1
            if where := by_text.get(("place", f"Where is {word}?")):
                assert where == PLACES[int(at[0][0] // CELL)][int(at[0][1] // CELL)]
            if way := by_text.get(("direction", f"Which way does {word} move?")):
                moved = np.subtract(at[-1], at[0])
                assert tuple(np.sign(np.where(np.abs(moved) > 20, moved, 0))) == DIRECTIONS[way]
    assert asked > 12


def test_every_kind_is_found_in_its_plots(album):
    for kind in KINDS:
        for plot in PLOTS_OF[kind]:
            scenes = (draw_scene(seed, album, grounds(), FRAMES, False, plot, kind == "name") for seed in SEEDS)
            assert any(one.kind == kind for scene in scenes for one in questions(scene, album)), (kind, plot)


@pytest.mark.parametrize(("name", "colour"), PLAIN.items())
def test_a_plain_stamp_has_its_colour(name, colour):
    picture = np.full((8, 8, 4), (*colour, 255), np.uint8)
    assert name in COLOURS and colour_of(picture) == name
    picture[:4] = (20, 20, 20, 255)
    assert colour_of(picture) is None, "half of it is black"
    picture[:4, :, 3] = 0
    assert colour_of(picture) == name, "what is transparent is not seen"


def test_a_folder_without_stamps_is_refused(tmp_path):
    with pytest.raises(OptionError, match="holds no stamps"):
        read_album(tmp_path, tmp_path / "kept")


# Packing and learning.


@pytest.fixture(scope="module")
def parts(halves):
    model = join(*halves, dtype=torch.float32)
    processor = processor_of(halves[1], 14)
    return model, processor, Words(processor, model.config.image_seq_length)


def learner_of(model, lora=0):
    features = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    return new_learner(model, (features.mean(0), features.std(0)), lora, seed=3)


ASKED = [Question("name", "What is it called?", "owl"), Question("place", "Where is it?", "top left")]


def test_a_packed_question_is_answered_as_if_asked_alone(parts):
    model, processor, words = parts
    frames = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE, 3), dtype=np.uint8)
    learner, _ = learner_of(model)
    learner.projector.fold_into(model.model.multi_modal_projector)
    rows = [
        {**pack(words, 3, asked), "features": features_of(model, frames).flatten(0, 1)} for asked in (ASKED, ASKED[:1])
    ]
    with torch.no_grad():
        packed = learner.logits(**collate(rows))
    clip = Clip(frames, (0.0, 1.0, 2.0), 1.0, 3.0, 3, "clip", (0, 1, 2))
    place = 0
    for question in (*ASKED, ASKED[0]):
        prompt = build_prompt(Checkpoint("small", model, processor), clip, question.text)
        asked, answer = words.segment(question)
        assert prompt["input_ids"][0].tolist() == words.prefix(3) + asked
        ids = torch.cat([prompt["input_ids"], torch.tensor([answer])], 1)
        with torch.no_grad():
            alone = model(input_ids=ids, pixel_values=prompt["pixel_values"]).logits[0, -len(answer) - 1 : -1]
        torch.testing.assert_close(packed[place : place + len(answer)], alone, rtol=1e-4, atol=1e-4)
        place += len(answer)
    assert place == len(packed)


def test_only_projector_and_adapters_learn(halves):
    pytest.importorskip("peft", reason="adapters need peft, an optional extra")
    model = join(*halves, dtype=torch.float32)
    learner, adapted = learner_of(model, lora=2)
    learning = {name for name, weight in learner.named_parameters() if weight.requires_grad}
    assert all("lora" in name or name.startswith("projector.linear") for name in learning)
    assert sum("lora_A" in name for name in learning) == 2 * 4, "four matrices in each of two layers"
    assert not any(weight.requires_grad for weight in model.model.vision_tower.parameters())
    assert hasattr(adapted, "merge_and_unload")


def test_shifts_and_scales_become_part_of_the_projector(parts):
    model, _, _ = parts
    projector = Projector(16, 32, torch.randn(16), torch.rand(16) + 0.5, 0.2)
    projector.fold_into(model.model.multi_modal_projector)
    features = torch.randn(5, 16)
    torch.testing.assert_close(model.model.multi_modal_projector(features), projector(features))


def test_a_row_is_the_same_for_the_same_number(parts):
    _, _, words = parts
    features = np.zeros((2, 1, words.tokens, 16), np.float16)
    lessons = Lessons(words, features, [ASKED, ASKED[:1]], 1, 9, seed=5)
    assert [lessons.chosen(number) for number in range(9)] == [lessons.chosen(number) for number in range(9)]
    assert {lessons.chosen(number)[0].kind for number in (0, 2, 4, 6, 8)} == {"name", "place"}


# The whole way.

SMALL = (
    Stage("pictures", frames=1, scenes=6, steps=30, batch=2, most=2, rate=0.01, aside=2, every=15, save=10),
    Stage("clips", frames=FRAMES, scenes=3, steps=4, batch=1, most=2, lora=2, aside=1, every=4, save=2),
)
KILLED = """
import os, signal, sys
from framefusion.evaluation.training import trainer
end = trainer.Progress.on_step_end
def step(self, args, state, control, **more):
    if state.global_step == 3 and state.max_steps == 4: os.kill(os.getpid(), signal.SIGKILL)
    end(self, args, state, control, **more)
trainer.Progress.on_step_end = step
from pathlib import Path
from tests.training.test_pretrained import run_all
run_all(*map(Path, sys.argv[1:]))
"""


def run_all(folder: Path, work: Path, stamps: Path, tower: Path, language: Path) -> None:
    build(folder, Plan(work, None, stamps, SMALL, 2, seed=1), lambda what, done, total: None, (tower, language))


@pytest.mark.slow
def test_what_was_killed_ends_with_the_same_model_which_evaluate_asks(halves, stamps, tmp_path, monkeypatch, capsys):
    pytest.importorskip("peft", reason="adapters need peft, an optional extra")
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate, an optional extra")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_all(tmp_path / "whole", tmp_path / "work", stamps, *halves)
    places = [tmp_path / "parts", tmp_path / "work2", stamps, *halves]
    paths = os.pathsep.join(sys.path)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, places)], capture_output=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "parts" / "model").exists()
    run_all(*places)
    whole = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    for name, value in load_file(tmp_path / "parts" / "model" / "model.safetensors").items():
        assert torch.equal(value, whole[name]), name
    losses = json.loads((tmp_path / "work" / "stage-pictures" / "curve.json").read_text())
    assert losses["losses"][-1][1] < losses["losses"][0][1] and set(losses["right"]) == {"15", "30"}
    text = (tmp_path / "whole" / "README.md").read_text()
    assert "times chance" in text and f"| name | 2 | {1 / 3:.1%} |" in text
    command = [
        "evaluate",
        "--model",
        str(tmp_path / "whole" / "model"),
        "--data",
        str(tmp_path / "whole" / "questions"),
    ]
    command += ["--frames", str(FRAMES), "--no-choices", "--samples", str(len(KINDS)), "--cost", "0.3", "--json"]
    assert run_app([*command, "--compare", "uniform", "--max-new-tokens", "4"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["dense"]["by_kind"]) == set(KINDS)
    assert all(entry["cost"] == pytest.approx(0.3, abs=0.03) for entry in shown["entries"])


@pytest.mark.parametrize(("right", "verdict"), [(0.9, "reached\\."), (0.2, "not reached: it is no yardstick")])
def test_the_card_says_whether_it_is_enough(right, verdict):
    rows = [Row("name", 10, 0.1, 0.2, 0.1, right), Row("count", 10, 0.25, 0.4, 0.3, right)]
    text = card(rows, {"seed": 1})
    assert f"{right / 0.175:.1f} times chance; 3 times are wanted:" in text and "| **mean** | 20 | 17.5%" in text
    assert re.search(verdict, text)
