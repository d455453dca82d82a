"""`framefusion serve --engine transformers` answers as `framefusion run` does, over real HTTP on loopback."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from framefusion.cli.app import run_app
from framefusion.inference.tiny import NAME
from framefusion.inference.video.write import write_clip
from tests.support.served import text_of
from tests.transformers_serve.server import Server, picture_of, video_of

for package in ("fastapi", "uvicorn", "openai", "accelerate"):
    pytest.importorskip(package, reason="pip install 'framefusion[serving]'")

pytestmark = pytest.mark.slow

QUESTIONS = ("How many squares are there?", "Which colour is the square?", "Where does it go?", "What happens?")


def scene(seed: int) -> np.ndarray:
    """(12, 112, 112, 3): squares of two colours that cross a grey ground."""
    draw = np.random.default_rng(seed)
    frames = np.full((12, 112, 112, 3), 90, np.uint8)
    for _ in range(2):
        colour, row, speed = draw.integers(0, 256, 3), int(draw.integers(0, 80)), int(draw.integers(2, 7))
        for number in range(12):
            frames[number, row : row + 28, number * speed : number * speed + 28] = colour
    return frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"clip{seed}.mp4" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_clip(path, scene(seed), fps=4.0)
    return paths


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(NAME, tmp_path_factory.mktemp("log") / "log", "--method", "framefusion", "--cost", "0.3")
    try:
        yield running.wait()
    finally:
        running.stop()


@pytest.fixture
def run(capsys):
    """What `framefusion run` answers."""

    def answer(clip, question, *words):
        assert run_app(["run", str(clip), question, "--max-new-tokens", "12", "--device", "cpu", "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)["reduced"]["text"]

    return answer


FUSED = ("--method", "framefusion", "--cost", "0.3")


def test_answers_are_those_of_run_streamed_or_not(server, clips, run):
    for clip in clips:
        wanted = run(clip, QUESTIONS[0], *FUSED)
        content = [video_of(clip), text_of(QUESTIONS[0])]
        assert server.ask(content).strip() == wanted
        assert server.ask(content, stream=True).strip() == wanted


def test_eight_at_a_time_do_not_mix(server, clips, run):
    """Streamed and not, of two clips, with budgets of their own and without."""
    cases = [(clips[number % 2], QUESTIONS[number % 4], number) for number in range(8)]
    budgets = [("framefusion", "0.3"), ("framefusion", "0.6"), ("fastv", "0.5"), ("framefusion", "0.3")]
    extras = [{}, {"visual_reduction": {"cost": 0.6}}, {"visual_reduction": {"method": "fastv", "cost": 0.5}}, {}]
    wanted = [
        run(clip, question, "--method", budgets[number // 2][0], "--cost", budgets[number // 2][1])
        for clip, question, number in cases
    ]
    with ThreadPoolExecutor(8) as pool:
        said = list(
            pool.map(
                lambda case: server.ask(
                    [video_of(case[0]), text_of(case[1])], stream=case[2] % 2 == 0, **extras[case[2] // 2]
                ),
                cases,
            )
        )
    assert [one.strip() for one in said] == wanted


def test_a_dense_request_and_other_names_of_the_budget(server, clips, capsys):
    question = QUESTIONS[1]
    assert run_app(["run", str(clips[0]), question, "--max-new-tokens", "12", "--json", "--compare", *FUSED]) == 0
    dense = json.loads(capsys.readouterr().out)["dense"]["text"]
    content = [video_of(clips[0]), text_of(question)]
    assert server.ask(content, visual_reduction={"method": "dense"}).strip() == dense
    assert server.ask(content, visual_reduction={"method": "uniform", "keep": 1.0}).strip() == dense


def test_visual_tokens_are_counted(server, clips, capsys):
    """Reduced, dense, and a text that brings none."""
    content = [video_of(clips[0]), text_of(QUESTIONS[0])]
    assert (
        run_app(["run", str(clips[0]), QUESTIONS[0], "--max-new-tokens", "1", "--device", "cpu", "--json", *FUSED]) == 0
    )
    told = json.loads(capsys.readouterr().out)["reduced"]["report"]
    before = server.visual_tokens()
    server.ask(content)
    reduced = server.visual_tokens()
    server.ask(content, stream=True, visual_reduction={"method": "dense"})
    server.ask([text_of("Hello")])
    after = server.visual_tokens()
    assert reduced["in"] - before["in"] == after["in"] - reduced["in"] == told["visual_tokens"]
    assert after["kept"] - reduced["kept"] == told["visual_tokens"] > told["kept_tokens"]
    assert reduced["kept"] - before["kept"] == told["kept_tokens"]


def test_a_path_instead_of_the_bytes_and_fewer_frames(server, clips, run):
    wanted = run(clips[1], QUESTIONS[3], *FUSED, "--frames", "6")
    content = [{"type": "video_url", "video_url": {"url": str(clips[1])}}, text_of(QUESTIONS[3])]
    assert server.ask(content, chat_template_kwargs={"num_frames": 6}).strip() == wanted


def test_a_picture_is_reduced(server, tmp_path):
    from framefusion.core.registry import configure
    from framefusion.inference.answer.checkpoint import load_checkpoint
    from framefusion.inference.reduction import reduce

    path = tmp_path / "picture.png"
    Image.fromarray(scene(3)[5]).save(path)
    checkpoint = load_checkpoint(NAME, device="cpu")
    content = [{"type": "image", "image": Image.open(path)}, text_of("Which colour?")]
    inputs = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with reduce(checkpoint.model, configure("fastv", {"cost": 0.4}), processor=checkpoint.processor):
        new = checkpoint.model.generate(**inputs, do_sample=False, max_new_tokens=12)[0, inputs["input_ids"].shape[1] :]
    wanted = checkpoint.processor.decode(new, skip_special_tokens=True).strip()
    asked = {"visual_reduction": {"method": "fastv", "cost": 0.4}}
    assert server.ask([picture_of(path), text_of("Which colour?")], **asked).strip() == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cost": 3}, "cost must be"),
        ({"cost": "x"}, "cost must be"),
        ({"method": "no-such"}, "no-such"),
        ({"method": 3}, "must be a name"),
        ({"method": "dense", "cost": 0.3}, "says nothing"),
        ({"layers": 3}, "no option `layers`"),
        ({"cost": 0.3, "keep": 0.3}, "both set"),
        ([0.3], "must be a mapping"),
        (0.3, "must be a mapping"),
    ],
)
def test_wishes_that_make_no_sense_are_an_error_of_their_request(server, given, words):
    status, body = server.post_json([text_of("Hello")], visual_reduction=given)
    assert status == 400 and words in body["error"]["message"]
    assert set(body["error"]) == {"message", "type", "why", "hint"}


@pytest.mark.parametrize(
    "url", ["data:video/mp4;base64,AAAA", "data:video/mp4,AAAA", "data:video/mp4;base64,%", "/no/f"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_video_is_told_and_the_server_goes_on(server, url, stream):
    content = [{"type": "video_url", "video_url": {"url": url}}, text_of("What?")]
    status, body = server.post_json(content, stream=stream)
    assert status == 400 and body["error"]["message"]
    assert server.process.poll() is None


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "/no/such/file.png", "data:image/png;base64,%"])
def test_a_broken_picture_is_told(server, url):
    status, body = server.post_json([{"type": "image_url", "image_url": {"url": url}}, text_of("What?")])
    assert status == 400 and "picture" in body["error"]["message"] and body["error"]["hint"]


def test_an_error_in_the_middle_of_an_answer(server, clips):
    """A method that acts before a layer the model does not have: known when the model is reached."""
    import openai

    content = [video_of(clips[0]), text_of("What?")]
    asked = {"visual_reduction": {"method": "fastv", "layer": 400}}
    status, body = server.post_json(content, **asked)
    assert status == 400 and "layer" in body["error"]["message"]
    with pytest.raises(openai.APIError) as caught:
        server.ask(content, stream=True, **asked)
    assert "this model has no layer 400 it has" in str(caught.value.body)


def test_text_alone_is_answered(server):
    assert isinstance(server.ask([text_of("Hello")]), str)


def test_options_of_neither_command(capsys):
    assert run_app(["serve", "--engine", "transformers", NAME, "--method", "fastv", "--no-such-option", "1"]) == 2
    assert "no-such-option" in capsys.readouterr().err


def test_a_model_that_cannot_be_reduced_is_refused_before_it_is_served(tmp_path, capsys):
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    from framefusion.inference.tiny import CHECKPOINT

    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(CHECKPOINT).save_pretrained(tmp_path)
    assert run_app(["serve", "--engine", "transformers", str(tmp_path), "--method", "fastv"]) == 2
    assert "hint:" in capsys.readouterr().err
