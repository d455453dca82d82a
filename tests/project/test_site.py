"""The documentation site: complete, without dead links, searchable, and nothing in it comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import framefusion as ff
from scripts import figures
from scripts.site.markdown import for_python_markdown, with_links_moved
from scripts.site.offline import loaded_from_elsewhere
from tests.project.tree import ROOT
from tests.support.browser import browser as browser

pytest.importorskip("mkdocs", reason="the extra `site` is not installed")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(params=["server", "folder"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """Where the site stands: behind a server of this machine, or opened from its folder."""
    if request.param == "folder":
        yield site.as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@slow
def test_the_search_finds_and_asks_no_network(browser: Any, address: str) -> None:
    tab, requests, errors = browser.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"{address}/methods/fastv.html")
    tab.click(".md-search__input")  # loads the index; what is typed before it is there is not searched for
    tab.locator(".md-search-result__meta", has_text="Type to start searching").wait_for(state="attached")
    tab.keyboard.type("similarity_lower_bound")
    found = tab.locator(".md-search-result__link")
    found.first.wait_for()
    assert any("methods/framefusion.html" in link.get_attribute("href") for link in found.all())
    found.first.click()
    tab.wait_for_load_state()
    assert "similarity_lower_bound" in tab.inner_text("article")
    tab.close()
    assert not errors
    assert not [url for url in requests if not url.startswith((address, "data:", "blob:", "about:"))]


@slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert not list(loaded_from_elsewhere(site))


@slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    places = set(re.findall(r'id="framefusion\.(\w+)"', text))
    assert set(ff.__all__) <= places
    for name in ("core.errors.OptionError", "inference.video.load_clip", "testing.methods.check_identity"):
        assert f'id="framefusion.{name}"' in text


@slow
def test_what_make_checks_of_the_built_site(site: Path) -> None:
    command = [sys.executable, "-m", "scripts.site.offline", str(site)]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    (site / "other.html").write_text('<img src="//a.example/x.png">')
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (site / "other.html").unlink()
    assert (done.returncode, done.stderr) == (1, "other.html: //a.example/x.png\n")


def test_what_would_be_loaded_is_told_from_what_is_linked(tmp_path: Path) -> None:
    page = '<a href="https://a.example"></a><link rel="canonical" href="https://b.example"><img src="own.png">'
    (tmp_path / "page.html").write_text(page + '<script src="https://c.example/x.js"></script>')
    assert list(loaded_from_elsewhere(tmp_path)) == ["page.html: https://c.example/x.js"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[there](other.md#heading)", None),
        ("[no page](nowhere.md)", "nowhere.md"),
        ("[no heading](other.md#nowhere)", "#nowhere"),
        ("[no heading here](#nowhere)", "#nowhere"),
        ("![no picture](nowhere.png)", "nowhere.png"),
        ("[no path of a site](/other)", "/other"),
    ],
)
def test_a_dead_link_stops_the_build(text: str, message: str | None, tmp_path: Path, caplog: Any) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Page\n\n{text}\n")
    (docs / "other.md").write_text("# Other\n\n## Heading\n")
    own = {"nav": ["index.md", "other.md"], "hooks": [], "plugins": [], "theme": "mkdocs", "extra_css": []}
    folders = {"docs_dir": str(docs), "site_dir": str(tmp_path / "site")}
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, **own, **folders)
    if message is None:
        build(config)
        return
    with pytest.raises(Abort):
        build(config)
    assert message in caplog.text


def test_figures_are_those_the_script_draws() -> None:
    drawn = {name: draw() for name, draw in figures.FIGURES.items()}
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in figures.FOLDER.glob("*.svg")}


def test_links_follow_their_files_into_the_site() -> None:
    outside = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
    moved = partial(with_links_moved, outside=outside)
    assert (
        moved("[a](docs/map.md#x) [b](docs/methods/evs.md)", "README.md", "index.md")
        == "[a](map.md#x) [b](methods/evs.md)"
    )
    assert (
        moved("[a](../../CONTRIBUTING.md#add)", "docs/methods/evs.md", "methods/evs.md")
        == "[a](../contributing.md#add)"
    )
    assert moved("[![a](view/map.gif)](view.md)", "docs/view.md", "view.md") == "[![a](view/map.gif)](view.md)"
    for kept in ("[a](https://a.example/docs/map.md)", "[a](#x)", "[a](nowhere.py)"):
        assert moved(kept, "README.md", "index.md") == kept


def test_lists_and_tables_of_github_are_lists_and_tables_of_the_site() -> None:
    from markdown import markdown

    def html(text: str) -> str:
        page = markdown(for_python_markdown(text), extensions=["sane_lists", "tables", "pymdownx.superfences"])
        return re.sub(r"\s*\n\s*", "", page)

    assert html("Text\n- one\n- two") == "<p>Text</p><ul><li>one</li><li>two</li></ul>"
    assert html("1. one\n   - inner\n   - inner\n2. two").count("<ul>") == 1
    assert "<ol><li>one<ul><li>inner" in html("1. one\n   - inner\n   - inner\n2. two")
    assert html("- one\n  goes on\n\nText") == "<ul><li>one  goes on</li></ul><p>Text</p>".replace("  ", "")
    assert html("1. one\n   - inner\n\n     more\n   - inner\n2. two").count("<li>") == 4
    assert html("- one\n- two\n- three\n# Head") == "<ul><li>one</li><li>two</li><li>three</li></ul><h1>Head</h1>"
    fenced = html("1. one\n\n   ```python\n   - = 1\n   ```\n2. two")
    assert fenced.count("<li>") == 2 and "<code>- = 1" in re.sub(r"<span[^>]*>|</span>|<a[^>]*></a>", "", fenced)
    assert "<code>&lt;|a|&gt;</code>" in html("| a | b |\n|---|---|\n| `<\\|a\\|>` | x |")
