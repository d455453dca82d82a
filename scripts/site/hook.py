"""Hooks of mkdocs: pages from outside docs/, those of the reference, and Markdown as Python-Markdown reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from scripts.site.markdown import for_python_markdown, with_links_moved
from scripts.site.reference import method_link, pages

ROOT = Path(__file__).resolve().parents[2]

# Files outside docs/ that its pages link to, and where they stand in the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.txt",
    "SECURITY.md": "security-policy.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/oracle.py": "benchmarks/oracle.py",
    "benchmarks/results/ages.png": "benchmarks/ages.png",
    "benchmarks/results/growth.png": "benchmarks/growth.png",
    "benchmarks/results/rows.jsonl": "benchmarks/rows.jsonl",
    "benchmarks/results/serving.jsonl": "benchmarks/serving.jsonl",
    "benchmarks/results/soak.jsonl": "benchmarks/soak.jsonl",
    "benchmarks/results/tower.png": "benchmarks/tower.png",
    "framefusion/cli/demo_clip/example.mp4": "example.mp4",
    "framefusion/inference/tiny/README.md": "model-card.md",
    "notebooks/README.md": "notebooks.md",
    **{f"notebooks/{path.name}": f"notebooks/{path.name}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))},
}
_SOURCES = {place: source for source, place in OUTSIDE.items()}


def on_files(files: Files, config: Any) -> Files:
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    place = page.file.src_uri
    if place in pages():
        return markdown
    moved = with_links_moved(markdown, _SOURCES.get(place, f"docs/{place}"), place, OUTSIDE)
    return for_python_markdown(moved) + method_link(place)
