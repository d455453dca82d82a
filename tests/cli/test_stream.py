"""The command that watches a stream, with the embedded model and with one that only notes what it is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import framefusion as ff
from framefusion.cli import stream_output
from framefusion.cli.app import run_app
from framefusion.cli.opening import read_precision
from framefusion.cli.stream import _split, schedule, watch
from framefusion.cli.stream_output import JsonLines
from framefusion.inference.live import open_source
from framefusion.inference.stream.status import StreamAnswer, StreamStatus
from framefusion.inference.video import write_clip
from tests.inference.live.conftest import picture_of
from tests.inference.live.test_address import Server, needs_ffmpeg

WINDOW = ["--policy", "window", "--memory", "128", "--window", "4"]


class Noting:
    """Stands for a stream: notes times and questions."""

    def __init__(self, seconds=0.0, frames=0) -> None:
        self.fed: list[float] = []
        self.saved: list[str] = []
        self.status = StreamStatus(seconds, frames, 0, 0, 0, 0, 0, 0.0)

    def feed(self, frames, seconds) -> None:
        assert frames.dtype == np.uint8 and frames.ndim == 4
        self.fed += seconds
        seen = self.status.frames_seen + len(seconds)
        self.status = replace(self.status, seconds_seen=seconds[-1], frames_seen=seen, windows=seen // 4)

    def ask(self, question, *, max_new_tokens) -> StreamAnswer:
        return StreamAnswer(f"{question} {len(self.fed)}", self.status.seconds_seen, max_new_tokens)

    def save(self, path) -> None:
        self.saved.append(str(path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Ten seconds, two frames in each."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, np.stack([picture_of(number, 112, 112) for number in range(20)]), fps=2)
    return str(path)


def events(text):
    found: dict[str, list] = {}
    for line in text.splitlines():
        event = json.loads(line)
        found.setdefault(event.pop("event"), []).append(event)
    return found


def watched(clip, video, capsys, questions=None, **options):
    """Events of a stream that is only noted."""
    with open_source(clip, **options) as source:
        interrupted = watch(source, video, questions or schedule([], None, []), JsonLines(), None, 8)
    return interrupted, events(capsys.readouterr().out)


def test_every_frame_is_fed_once_and_questions_come_when_they_are_due(clip, capsys):
    video = Noting()
    asked = schedule(["who?"], 4.0, ["00:00:03 what?"])
    interrupted, found = watched(clip, video, capsys, asked, fps=2)
    assert video.fed == [number / 2 for number in range(20)] and not interrupted
    assert [(one["question"], one["seconds"]) for one in found["answer"]] == [
        ("what?", 3.0),
        ("who?", 4.0),
        ("who?", 8.0),
        ("who?", 9.5),
    ]
    assert [one["windows"] for one in found["status"]] == [1, 2, 3, 4, 5]
    assert found["end"][0]["frames_seen"] == 20 and found["end"][0]["interrupted"] is False


def test_a_stream_that_is_resumed_goes_on_behind_its_last_frame(clip, capsys):
    video = Noting(seconds=100.0, frames=7)
    _, found = watched(clip, video, capsys, schedule(["who?"], 104.0, []), fps=1)
    assert video.fed == [101.0 + number for number in range(10)]
    assert [one["seconds"] for one in found["answer"]] == [104.0, 110.0]


def test_ctrl_c_ends_the_stream_saves_the_tape_and_answers(tmp_path, capsys):
    class Impatient(Noting):
        def feed(self, frames, seconds) -> None:
            super().feed(frames, seconds)
            if len(self.fed) == 5:
                os.kill(os.getpid(), signal.SIGINT)

    video, before = Impatient(), signal.getsignal(signal.SIGINT)
    with open_source("lavfi:testsrc=rate=25:size=64x48", fps=25) as source:
        assert watch(source, video, schedule(["who?"], None, []), JsonLines(), tmp_path / "tape", 8)
    assert video.saved == [str(tmp_path / "tape")] and len(video.fed) == 5
    found = events(capsys.readouterr().out)
    assert found["end"][0]["interrupted"] is True and found["answer"][0]["text"] == "who? 5"
    assert signal.getsignal(signal.SIGINT) is before


def test_the_tape_is_saved_when_the_model_fails(clip, tmp_path):
    class Failing(Noting):
        def ask(self, question, *, max_new_tokens) -> StreamAnswer:
            raise ff.FrameFusionError("no")

    video = Failing()
    with open_source(clip, fps=2) as source, pytest.raises(ff.FrameFusionError):
        watch(source, video, schedule([], None, ["2 who?"]), JsonLines(), tmp_path / "tape", 8)
    assert video.saved == [str(tmp_path / "tape")]


def test_people_see_a_display_on_a_terminal(monkeypatch, capsys):
    screen = Console(force_terminal=True, width=100, stderr=True)
    monkeypatch.setattr(stream_output, "err", screen)
    status = StreamStatus(750.0, 1500, 94, 24_000, 4096, 12 * 2**20, 70 * 2**20, 0.21)
    with stream_output.Display() as display:
        display.start({"source": "door[red]"})
        display.status(status)
        display._live.refresh()
        display.answer("who?", StreamAnswer("a [bold]cat", 750.0, 4096))
    shown = capsys.readouterr()
    for part in ("door[red]", "00:12:30", "1,500 in 94 windows", "24,000 seen, 4,096 kept", "12.0 MiB of 70.0 MiB"):
        assert part in shown.err
    assert "a [bold]cat" in shown.out


@pytest.mark.slow
def test_the_embedded_model_watches_a_file(clip, capsys):
    options = ["--fps", "2", "--ask", "what colour flashed?", "--at", "3", "how many things are there?", "--json"]
    assert run_app(["stream", clip, *WINDOW, *options]) == 0
    found = events(capsys.readouterr().out)
    assert found["start"][0]["policy"] == "window" and found["start"][0]["method"] is None
    assert found["start"][0]["policy_options"] == {}
    assert [one["seconds"] for one in found["answer"]] == [3.0, 9.5]
    assert all(one["text"] for one in found["answer"])
    end = found["end"][0]
    assert end["frames_seen"] == 20 and end["windows"] == 5 and end["tokens_kept"] <= 128 < end["tokens_seen"]


@pytest.mark.slow
def test_recent_frames_are_read_for_questions_alone(clip, capsys):
    assert (
        run_app(["stream", clip, *WINDOW, "--fps", "2", "--recent", "8", "--ask", "what colour flashed?", "--json"])
        == 0
    )
    found = events(capsys.readouterr().out)
    assert found["start"][0]["recent"] == 8 and found["end"][0]["windows"] == 3
    assert found["answer"][0]["tokens_read"] > 128 >= found["end"][0]["tokens_kept"]


@needs_ffmpeg
@pytest.mark.slow
def test_the_embedded_model_answers_while_a_network_stream_is_cut_and_comes_back(tmp_path, capsys, monkeypatch):
    server, cut = Server(tmp_path), []
    server.serve(range(40))
    answer = JsonLines.answer

    def cutting(self, *words) -> None:
        answer(self, *words)
        if not cut:
            cut.append(True)
            server.cut()
            server.serve(range(20))

    monkeypatch.setattr(JsonLines, "answer", cutting)
    options = [
        "--fps",
        "10",
        "--ask",
        "what moves?",
        "--ask-every",
        "1",
        "--patience",
        "20",
        "--give-up",
        "3",
        "--json",
    ]
    try:
        assert run_app(["stream", server.address, *WINDOW, *options]) == 0
    finally:
        server.cut()
    # How many frames each part brings depends on when the cut meets what is on its way: only the order is certain.
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    order = [event.get("kind", event["event"]) for event in shown]
    assert order.index("answer") < order.index("cut") < order.index("back")
    assert "answer" in order[order.index("back") :] and order[-1] == "end"
    answered = [event["seconds"] for event in shown if event["event"] == "answer"]
    assert len(answered) >= 2 and answered == sorted(set(answered))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        (["CLIP", "--fps", "0"], "fps"),
        (["CLIP", "--ask-every", "5"], "--ask"),
        (["CLIP", "--ask", "who?", "--ask-every", "0"], "--ask-every"),
        (["CLIP", "--at", "soon", "who?"], "soon"),
        (["CLIP", "--at", "00:01:00"], "--at"),
        (["CLIP", "--patience", "-1"], "patience"),
        (["CLIP", "--max-side", "0"], "max_side"),
        (["CLIP", "--method", "nothing"], "nothing"),
        (["CLIP", "--set", "a=1"], "--method"),
        (["CLIP", "--resume", "no.tape"], "no.tape"),
        (["CLIP", "--save", "no/folder/tape"], "tape"),
        (["CLIP", "--dtype", "int3"], "dtype"),
        (["CLIP", "--memory", "lots"], "lots"),
        (["CLIP", "--memory", "0"], "memory"),
        (["CLIP", "--policy", "nothing"], "nothing"),
        (["CLIP", "--policy-set", "query_ratio"], "--policy-set"),
        (["CLIP", "--policy-set", "query_ratio=2"], "query_ratio"),
        (["CLIP", "--policy-set", "keep=2"], "keep"),
        (["CLIP", "--policy", "window", "--policy-set", "keep=2"], "keep"),
        (["CLIP", "--window", "0"], "--window"),
        (["CLIP", "--recent", "-1"], "--recent"),
        (["CLIP", "--context", "0"], "--context"),
        (["CLIP", "--span", "1"], "--span"),
        (["CLIP", "--give-up", "nan"], "give_up"),
        (["nowhere://127.0.0.1/x"], "nowhere://"),
        (["tcp://127.0.0.1:1", "--patience", "0"], "refused"),
    ],
)
def test_what_cannot_be_is_told_before_a_model_is_loaded(options, word, clip, capsys, monkeypatch):
    monkeypatch.setattr("framefusion.cli.stream.open_checkpoint", lambda *_: pytest.fail("a model was loaded"))
    assert run_app(["stream", *[clip if option == "CLIP" else option for option in options]]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert word in shown and "hint:" in shown


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    tape = tmp_path / "tape.safetensors"
    command = [sys.executable, "-m", "framefusion", "stream", "lavfi:testsrc=rate=10:size=112x112", *WINDOW, "--json"]
    with subprocess.Popen([*command, "--save", str(tape)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "status":
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130 and tape.stat().st_size
    assert events(rest)["saved"][0]["path"] == str(tape)


@pytest.mark.parametrize(
    ("words", "of_model", "of_memory"),
    [
        (None, None, None),
        ("weights=sim8", "weights=sim8", None),
        ("kv=sim4", None, "kv=sim4"),
        ("weights=sim8,kv=int4,kv_group=16", "weights=sim8", "kv=int4,kv_group=16"),
    ],
)
def test_bits_of_the_cache_are_those_of_the_memory(words, of_model, of_memory):
    found = _split(read_precision(words, None))
    assert (None if found[0] is None else str(found[0]), found[1]) == (of_model, of_memory)
