"""`framefusion app` as it is started and stopped; what it shows is tested in tests/integrations/app/."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from framefusion.cli.app import run_app

WRONG = {
    "a method that is not there": ["--method", "nothing"],
    "a module in place of a method": ["--method", "os:system"],
    "a budget": ["--cost", "0"],
    "no frames": ["--frames", "0"],
    "an upload of nothing": ["--upload", "0"],
    "a port": ["--port", "70000"],
    "a device": ["--device", "nowhere"],
    "no tokens": ["--max-new-tokens", "0"],
    "a model": ["--model", "/nowhere/at/all"],
}


@pytest.mark.parametrize("words", WRONG.values(), ids=list(WRONG))
def test_wrong_words_are_told_before_anything_is_served(words, capsys):
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    assert run_app(["app", *words]) == 2
    told = capsys.readouterr().err
    assert "error:" in told and "Traceback" not in told


def test_without_gradio_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_app(["app"]) == 2
    assert "framefusion[app]" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped_and_leaves_nothing(number, tmp_path: Path):
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    command = [sys.executable, "-m", "framefusion", "app"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urlopen(address) as answer:
            assert answer.status == 200 and b"FrameFusion" in answer.read()
        assert any(path.name.startswith("framefusion-") for path in tmp_path.iterdir())
        process.send_signal(number)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("framefusion-")]
