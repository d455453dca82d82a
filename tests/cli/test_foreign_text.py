"""Names, answers and messages of strangers are shown on terminals, plots and pages, and nothing obeys them."""

from __future__ import annotations

import io
import json
import re
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from framefusion.cli import app, console
from framefusion.cli.app import run_app
from framefusion.core.errors import OptionError
from framefusion.core.text import as_code, for_markdown, for_plot, one_line, visible
from framefusion.inference.video import write_clip
from tests.support.tiny import moving_clip, save_checkpoint

# A closing tag of rich, a colour, mathematics, a bell, an override of the direction, an emoji's name, a mark of a page.
FOLDERS = ("c[", "old] $x^$ \\ _y_ [red] :cat: `|<b>\x1b[31m\x07\x9b\u202e<!-- end of rows -->")
SHOWN = "old] $x^$ \\ _y_ [red] :cat: `|<b>\\x1b[31m\\x07\\x9b\\u202e<!-- end of rows -->"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib, the extra `plot`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("x")
    save_checkpoint("qwen2_5_vl", found.joinpath(*FOLDERS))
    write_clip(found / "clip.mp4", moving_clip(4, height=56, width=84), fps=4.0)
    (found / "clip.mp4").rename(found / f"{FOLDERS[1]}.mp4")
    return found


@pytest.fixture(autouse=True)
def wide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder, so that names are short, and on terminals that break no line."""
    monkeypatch.chdir(folder)
    for one in (console.out, console.err):
        monkeypatch.setattr(one, "width", 1000)


SMALL = ["--model", "/".join(FOLDERS), "--max-new-tokens", "2"]
ASKED = ["--samples", "2", "--kinds", "colour,needle", "--out", "ANSWERS"]
VIDEO = f"{FOLDERS[1]}.mp4"
COMMANDS = {
    "run": ["run", VIDEO, "what?", *SMALL],
    "run, compared": ["run", VIDEO, "what?", *SMALL, "--compare"],
    "evaluate": ["evaluate", *SMALL, *ASKED, "--compare", "none", "--plot", "cost.svg"],
    "study": ["study", *SMALL, *ASKED, "--methods", "random", "--budgets", "1,0.4", "--weights", "16"],
    "analyze": ["analyze", VIDEO, *SMALL[:2], "--frames", "4", "--plot", "similarity.svg"],
    "view": ["view", VIDEO, "what?", *SMALL, "--out", "page.html"],
    "view, picture": ["view", VIDEO, "what?", *SMALL, "--out", "map.png"],
    "map": ["map", "*.mp4", "-q", "what?", *SMALL, "--out", "answers.jsonl"],
}
COMMANDS["study"] += ["--activations", "16", "--kv", "16", "--plots", ".", "--page", "page.md"]


@needs_matplotlib
@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_well(
    command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = folder / "page.md"
    page.write_text("before\n<!-- rows: written by the command -->\n<!-- end of rows -->\nafter\n")
    monkeypatch.setattr("sys.argv", ["framefusion", *COMMANDS[command]])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert run_app([str(tmp_path / "a") if word == "ANSWERS" else word for word in COMMANDS[command]]) == 0
    seen = capsys.readouterr()
    assert not OBEYED.search(seen.out + seen.err)
    if command in ("evaluate", "study"):
        assert f"c[/{SHOWN}" in seen.out
    if command == "study":
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and not OBEYED.search(text)
        assert text.count("<!-- end of rows -->") == 1 and "<b>" not in text


def shown_by(print_it: object, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> str:
    held = io.StringIO()
    terminal = Console(file=held, force_terminal=True, color_system="truecolor", width=1000, emoji=False)
    for name in ("out", "err"):
        monkeypatch.setattr(console, name, terminal)
    print_it(*arguments)  # type: ignore[operator]
    # What rich itself writes: colours and styles.
    return re.sub(r"\x1b\[[\d;]*m", "", held.getvalue())


@pytest.mark.parametrize("printer", [console.explain, console.note, console.say])
@pytest.mark.parametrize(
    "text", ["a[/b] [red]c[/] \\[d] e\\", "\x1b[31m", "\x1b]0;title\x07", ":cat:", "\u202eabc", "\r"]
)
def test_a_terminal_shows_it(printer: object, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown_by(printer, f"<{text}>", monkeypatch=monkeypatch)
    assert not OBEYED.search(found)
    assert (one_line(f"<{text}>") if printer is not console.say else visible(f"<{text}>")) in found


def test_an_error_with_markup_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OptionError("a [/red] \x1b[1m\nb", "\u202ewhy", "[hint")

    monkeypatch.setattr(app, "app", fail)
    assert run_app(["models"]) == 2
    assert capsys.readouterr().err == "error: a [/red] \\x1b[1m b: \\u202ewhy\nhint: [hint\n"


def test_letters_stay_letters() -> None:
    for text in ("répondre, 回答, ответ", "😀 a\tb", "עברית"):
        assert visible(text) == text
    assert visible("a\nb") == "a\nb" and one_line(" a\nb ") == "a b"
    assert visible("\ud800\x00") == "\\ud800\\x00"


@needs_matplotlib
@pytest.mark.parametrize("text", ["$x$", "$\\frac{1$", "a $ b", "\\$", "$$", "\\", "a\x1bb\nc"])
def test_a_plot_shows_it(text: str) -> None:
    from framefusion.evaluation.figure import new_figure

    figure, held = new_figure(2, 2), io.BytesIO()
    figure.suptitle(for_plot(text))
    figure.savefig(held, format="svg")
    # Each text that is not taken as mathematics is named before its outlines.
    assert f"<!-- {one_line(text)} -->" in held.getvalue().decode()


def test_markdown_holds_it() -> None:
    assert for_markdown("a*b_c_ <i> [x](y) `") == "a\\*b_c\\_ &lt;i&gt; \\[x\\](y) \\`"
    assert for_markdown("qwen2_5_vl 0.5") == "qwen2_5_vl 0.5"
    assert as_code("a_b*") == "`a_b*`"
    assert as_code("a`b|<!-- c") == "<code>a\\`b\\|&lt;!-- c</code>"


@pytest.mark.parametrize("name", [VIDEO, "line\nbreak\r.mp4", "\ud800.mp4", "\u2028.mp4"])
def test_pictures_and_pages_show_it(name: str, tmp_path: Path) -> None:
    from framefusion.evaluation.view.page import page
    from framefusion.evaluation.view.picture import panels
    from tests.support.seeing import scene

    seen = replace(scene("qwen2_5_vl"), source=name, model=name, question=name)
    assert panels(seen).width > 500
    text = page(seen)
    found = re.search(r"<title>(.*)</title>", text)
    assert found is not None and not OBEYED.search(text) and "<b>" not in found[1]
    text.encode()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert data is not None and json.loads(data[1])["source"] == name
