"""Arguments beside the options of methods: bits, grids, clips, questions, requests, and the command itself."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from torch import nn

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.core.errors import FrameFusionError, OptionError
from framefusion.core.options import options_of
from framefusion.core.registry import methods
from framefusion.evaluation import Asking, comparison, evaluate
from framefusion.evaluation.study.grid import Grid
from framefusion.evaluation.synthetic_questions import samples
from framefusion.inference.batch import Job
from framefusion.inference.quantization import Precision, Width, quantize
from framefusion.inference.video import load_clip, sample_indices
from framefusion.integrations.lmms.harness import Request
from framefusion.integrations.lmms.options import precision_of, split
from framefusion.integrations.vllm.recipe import Recipe
from framefusion.integrations.vllm.rules import OF_VIDEOS
from framefusion.integrations.vllm.settings import Settings, read_words
from tests.core.options.hostile import NEVER, SOMETIMES
from tests.support.tiny import build_model

HOSTILE = {**NEVER, **SOMETIMES}
REQUEST = Request("qwen2_5_vl", "pretrained=x", ("a",))
# No method beside the dense model, no control, and attention as it is configured.
MEANT = {(name, f"empty {kind}") for name in ("methods", "controls") for kind in ("list", "tuple")}
MEANT |= {("attentions", "list of nothing")}
WRONG = (
    *("weights=", "weights=int", "weights=int4.0", "weights=int-4", "weights=int٤", "weights=int04", "weights=INT4"),
    *("group=²", "group=1.0", "group=-1", "group=1e3", "group=", "group=" + "9" * 5000, "kv_group=0", "tower=1"),
    *("library=", "cache=none", "attention=", ",", " , ", "=", "=int4", "weights:int4", "nan", "[]", "null"),
)


def refuses(call: Any, *arguments: Any, **options: Any) -> bool:
    """Whether a call ends in our own error; any other is a failure."""
    try:
        call(*arguments, **options)
    except OptionError as error:
        assert error.what
        return True
    return False


@pytest.mark.parametrize("word", [f"{kind}{bits}" for kind in ("int", "sim", "") for bits in (0, 1, 9, 16, 99, 999)])
@pytest.mark.parametrize("part", ["weights", "activations", "kv"])
def test_widths_that_nobody_has(part: str, word: str) -> None:
    if word == "16":
        assert Precision.parse(f"{part}={word}").full
        return
    with pytest.raises(OptionError) as error:
        Precision.parse(f"{part}={word}")
    assert error.value.hint


@pytest.mark.parametrize("text", WRONG, ids=[text[:20] for text in WRONG])
def test_words_of_a_precision_that_say_nothing(text: str) -> None:
    with pytest.raises(OptionError) as error:
        Precision.parse(text)
    assert error.value.hint


def test_precisions_made_by_hand() -> None:
    for name in (field.name for field in fields(Precision)):
        for what, value in NEVER.items():
            assert refuses(Precision, **{name: value}), (name, what)
    for what, value in NEVER.items():
        assert refuses(Width, value) and refuses(Width, 4, value), what
        assert what == "empty text" or refuses(precision_of, value), what
    assert refuses(Precision, Width(999)) and refuses(Precision, kv=Width(16, simulated=True))
    assert refuses(quantize, nn.Linear(2, 2), "weights=int4")


def test_arguments_of_a_study() -> None:
    grid: dict[str, Any] = {"methods": (ff.Random(),), "budgets": (0.5,)}
    for name in ("budgets", "weights", "activations", "kv", "attentions", "common", "methods"):
        for what, value in NEVER.items():
            if (name, what) not in MEANT:
                assert refuses(Grid, **{**grid, name: value}), (name, what)
    for budget in (0.0, 1.5, True, None, "0.5"):
        assert refuses(Grid, **{**grid, "budgets": (budget,)})


def test_arguments_of_an_evaluation() -> None:
    for what, value in NEVER.items():
        for name in ("costs", "controls", "samples", "seed", "part", "kinds", "calibrated", "asking"):
            if (name, what) not in MEANT:
                assert refuses(evaluate, None, ff.Random(), **{name: value}), (name, what)
        assert refuses(evaluate, None, value), what
        for name in (field.name for field in fields(Asking)):
            assert refuses(Asking, **{name: value}), (name, what)
    for part in ((0, 1), (2, 1), (1, 2, 3), (1.0, 2), (True, 2), "1/2"):
        assert refuses(evaluate, None, ff.Random(), part=part)
    assert refuses(evaluate, None, ff.Random(), kinds="colour")


def test_arguments_of_a_calibration() -> None:
    model = build_model("qwen3_vl", layers=1)
    for value in ({"input_ids": 1}, ["input_ids"], [None], [], "a.mp4", 3, None):
        assert refuses(ff.calibrate, model, value), value


def test_arguments_of_clips_questions_and_jobs() -> None:
    for what, value in NEVER.items():
        for name in ("frames", "fps", "max_pixels", "max_side"):
            assert refuses(load_clip, "no.mp4", **{name: value}), (name, what)
        assert refuses(sample_indices, value, 4, 1.0, None) and refuses(sample_indices, 9, 4, value, None), what
        assert refuses(lambda value=value: list(samples(value))), what
        assert refuses(lambda value=value: list(samples(9, value))), what
        for name in ("frames", "fps", "max_new_tokens", "dtype", "trust_remote_code", "method"):
            assert refuses(Job, **{"model": "x", name: value}), (name, what)
        for name in ("batch_size", "limit"):
            assert refuses(replace, REQUEST, **{name: value}), (name, what)


SERVED = [(name, option) for name in OF_VIDEOS for option in (*options_of(methods.load(name)), "pixel_change", "other")]


@pytest.mark.parametrize(("name", "option"), SERVED)
def test_options_of_a_request(name: str, option: str) -> None:
    """Refused, or a recipe can be written, sent and followed."""
    engine = Settings("visionzip", 0.5)
    for what, value in HOSTILE.items():
        try:
            settings = engine.for_request({"method": name, "keep": 0.5, option: value})
        except OptionError:
            continue
        assert what in SOMETIMES, what
        recipe = Recipe.write(settings, (4, 4, 4), False, changed=3)
        assert Recipe.unpack(recipe.pack()) == recipe
        assert json.loads(json.dumps(dict(settings.options))) == settings.options


def test_settings_of_a_request_that_are_none() -> None:
    for what, value in NEVER.items():
        assert what == "mapping" or refuses(Settings().for_request, value), what
        for name in ("method", "keep", "pixel_change"):
            assert refuses(Settings().for_request, {name: value}), (name, what)
    assert Settings().for_request({"keep": "pixels"}).keep == "pixels"


def test_words_of_a_server() -> None:
    assert read_words({"method": "prumerge", "keep": "16", "neighbours": "4"})["neighbours"] == 4
    assert read_words({"keep": "pixels", "pixel_change": "0.1"}) == {"keep": "pixels", "pixel_change": 0.1}
    wrong = {"method": "prumerge", "neighbours": "2.5"}
    for words in (wrong, {"keep": "few"}, {"pixel_change": "on"}, {"nothing": "1"}):
        assert refuses(read_words, words), words


@pytest.mark.parametrize(("written", "strict"), [("off", False), ("no", False), (0, False), ("on", True), (True, True)])
def test_words_of_lmms_eval(written: Any, strict: bool) -> None:
    assert split({"method": "visionzip", "strict": written}, ()) == (ff.VisionZip(strict=strict), {})


@pytest.mark.parametrize(
    "options", [{"layer": True}, {"layer": 2.5}, {"keep": "nan"}, {"keep": True}, {"layer": ""}, {"keep": 1e30}]
)
def test_words_of_lmms_eval_that_say_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        split({"method": "fastv", **options}, ())


COMMANDS = [
    *(["run", "no.mp4", "What?", "--set", word] for word in ("strict=maybe", "strict=", "strict", "=", "x=1")),
    *(["run", "no.mp4", "What?", "--quantize", word] for word in ("weights=int999", "kv=int16", ",", "weights=sim1")),
    *(["run", "no.mp4", "What?", "--cost", word] for word in ("nan", "inf", "1e30", "0", "-1", "few", "")),
    *(["run", __file__, "What?", "--frames", word] for word in ("0", "-1", "2.5", "99999999999999999999")),
    *(["run", __file__, "What?", "--fps", word] for word in ("nan", "inf", "0", "1e30")),
    *(["run", "no.mp4", "What?", "--max-new-tokens", word] for word in ("0", "-1", "1e3", "99999999999999999999")),
    *(["run", "no.mp4", "What?", "--method", word] for word in ("", "FastV", "dense")),
    *(["evaluate", "--sweep", word] for word in ("", ",", "nan", "0.5,2", "0.5;0.3", "inf")),
    *(["evaluate", option, word] for option in ("--cost", "--keep") for word in ("nan", "0", "2")),
    *(["evaluate", "--batch", word] for word in ("0", "-1", "99999999999999999999")),
    *(["evaluate", "--part", word] for word in ("", "1", "0/1", "2/1", "1/0", "²/3", "1/2/3", "9" * 5000 + "/1")),
    *(["evaluate", f"--{name}", word] for name in ("samples", "seed") for word in ("-1", "99999999999999999999")),
    *(["evaluate", "--compare", word] for word in ("nobody", "fastv:layer", "fastv:layer=2.5", ":", "fastv:strict=on")),
    *(["study", "--budgets", word] for word in ("", ",", "nan", "2", "0.5;0.3")),
    *(["study", "--weights", word] for word in ("", "999", "²", "int999", "0", "sim16")),
    *(["study", "--group", word] for word in ("0", "-1")),
    *(["study", "--attention", word] for word in ("", "flash")),
    *(["study", "--methods", word] for word in ("nobody", "fastv:layer=nan", "framefusion:strict=2")),
    ["serve", "model", "--method", "visionzip", "--set", "strict=off"],
    ["serve", "model", "--method", "prumerge", "--set", "neighbours=2.5"],
    *(["serve", "model", "--cost", word] for word in ("", "nan", "0", "2", "100", "pixels")),
    ["serve", "model", "--cost", "0.3", "--keep", "0.3"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words)[:60] for words in COMMANDS])
def test_the_command_says_what_is_wrong(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """One line and a hint, before anything is loaded."""
    monkeypatch.setattr("framefusion.cli.opening.open_checkpoint", None)
    if words[0] == "evaluate" and words[1] in ("--samples", "--seed", "--part"):
        monkeypatch.setattr("framefusion.cli.evaluate.open_checkpoint", lambda *_: None)
        monkeypatch.setattr(comparison, "ComparisonContext", None)
    assert run_app(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and "Traceback" not in shown


def test_a_switch_is_off_when_it_says_off() -> None:
    from framefusion.cli.options import build_method

    assert build_method("framefusion", 0.3, ["strict=off"]) == ff.FrameFusion()
    assert build_method("framefusion", 0.3, ["strict=on"]).options()["strict"] is True
    with pytest.raises(FrameFusionError, match="strict must be true or false"):
        build_method("framefusion", 0.3, ["strict=maybe"])
