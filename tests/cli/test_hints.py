"""What a processor does not accept is said with a hint about what made the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from framefusion.cli.app import run_app
from framefusion.core.errors import CheckpointError, FrameFusionError, OptionError, PromptError
from framefusion.inference.answer.checkpoint import Checkpoint, load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.batch import find_videos
from framefusion.inference.video import Clip, load_clip, write_clip
from tests.support.tiny import moving_clip, save_checkpoint

NAMES = ("qwen2_5_vl", "llava_onevision", "internvl", "gemma3", "llava_qwen")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    found = {}
    for name in NAMES[:-1]:
        folder = tmp_path_factory.mktemp(name)
        save_checkpoint(name, folder, layers=1)
        found[name] = load_checkpoint(str(folder), device="cpu")
    return found


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    write_clip(tmp_path / "clip.mp4", moving_clip(4, 56, 56), fps=4)
    return load_clip(tmp_path / "clip.mp4", frames=4)


def shaped(clip: Clip, height: int, width: int) -> Clip:
    return replace(clip, frames=np.zeros((len(clip.frames), height, width, 3), np.uint8))


class Picky:
    """A processor that objects to some clips and questions, in words of its own."""

    def __init__(self, stock: object, objects: object) -> None:
        self.stock, self.objects = stock, objects

    def __getattr__(self, name: str) -> object:
        return getattr(self.stock, name)

    def __call__(self, text: list[str], **given: object) -> object:
        frames = np.asarray(given["videos"][0] if np.ndim(given["videos"][0]) == 4 else given["videos"][0][0])  # type: ignore[index]
        if self.objects(text[0], frames):  # type: ignore[operator]
            raise ArithmeticError("I do not like that")
        return self.stock(text=text, **given)  # type: ignore[operator]


OBJECTIONS = {
    "too long": (lambda text, frames: frames.shape[2] > 2 * frames.shape[1], (28, 280), "differ less"),
    "too small": (lambda text, frames: frames.shape[1] < 100, (56, 56), "scale"),
    "odd": (lambda text, frames: len(frames) != 8, (56, 56), "--frames 8"),
    "question": (lambda text, frames: "why" in text, (56, 56), "other words"),
    "everything": (lambda text, frames: True, (56, 56), "checkpoint"),
}


@pytest.mark.parametrize("case", OBJECTIONS)
def test_the_hint_is_about_what_made_the_difference(case, opened, clip):
    objects, size, hint = OBJECTIONS[case]
    stock = opened["qwen2_5_vl"]
    picky = replace(stock, processor=Picky(stock.processor, objects))
    with pytest.raises((PromptError, CheckpointError)) as error:
        build_prompt(picky, shaped(clip, *size), "why?")
    assert hint in error.value.hint and "I do not like that" in error.value.why
    assert isinstance(error.value, CheckpointError) is (case == "everything")
    assert ("--frames" in error.value.hint) is (case == "odd")


@pytest.mark.parametrize("name", NAMES[:-1])
@pytest.mark.parametrize("size", [(2, 600), (600, 2), (28, 6000), (1, 1)])
def test_frames_of_extreme_shapes_answer_or_are_refused_for_their_shape(name, size, opened, clip):
    try:
        build_prompt(opened[name], shaped(clip, *size), "what?")
    except FrameFusionError as error:
        assert "--frames" not in error.hint and f"{size[1]} x {size[0]}" in str(error)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_question_that_holds_a_placeholder(name, opened, clip):
    processor = opened[name].processor
    holders = (processor, processor.tokenizer)
    tokens = {getattr(holder, kind, None) for holder in holders for kind in ("image_token", "video_token", "boi_token")}
    for token in filter(None, tokens):
        with pytest.raises(PromptError) as error:
            build_prompt(opened[name], clip, f"what does {token} mean?")
        assert token in error.value.what and "--frames" not in error.value.hint


@pytest.mark.parametrize("name", NAMES[:-1])
@pytest.mark.parametrize("question", ["\udcff\udcfe", "what \ud83d?"])
def test_a_question_that_is_no_text(name, question, opened, clip):
    with pytest.raises(PromptError, match="no UTF-8"):
        build_prompt(opened[name], clip, question)


def test_patterns_in_a_folder_whose_name_has_brackets(tmp_path):
    for folder in ("Show [1080p]", "Show [1080p]/season [2]", "1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mp4").touch()
    show = tmp_path / "Show [1080p]"
    assert find_videos([f"{show}/*.mp4"]) == [str(show / "a.mp4")]
    assert find_videos([f"{show}/**/*.mp4"]) == [str(show / "a.mp4"), str(show / "season [2]" / "a.mp4")]
    assert find_videos([f"{show}/season [2]/?.mp4"]) == [str(show / "season [2]" / "a.mp4")]
    # Where no folder has that very name, brackets stand for letters as ever.
    assert find_videos([f"{tmp_path}/[12]/*.mp4"]) == [str(tmp_path / "1" / "a.mp4")]
    with pytest.raises(OptionError) as error:
        find_videos([f"{show}/[x]*.mp4"])
    assert "bracket" in error.value.hint


def test_the_command_hints_at_the_shape(tmp_path, capsys):
    save_checkpoint("qwen2_5_vl", tmp_path / "model", layers=1)
    write_clip(tmp_path / "thin.mp4", np.zeros((2, 16, 4096, 3), np.uint8), fps=4)
    assert run_app(["run", str(tmp_path / "thin.mp4"), "What?", "--model", str(tmp_path / "model")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "4096 x 16" in said and "--frames" not in said and "differ less" in said
