"""Every method on every kind of family, by running it; `docs/methods.md` is written from this.

`python -m scripts.methods_page` writes the page.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError, UnsupportedPointError
from framefusion.core.registry import methods
from tests.support.tiny import build_model, moving_clip, prompt

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "llava")
LAYERS = 4
TITLES = {
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "llava_onevision": "LLaVA-OneVision",
    "internvl": "InternVL",
    "llava": "LLaVA-1.5",
}


@cache
def cell(name: str, family: str) -> str:
    """`yes` where the method generates on a tiny model of the family, else what the family lacks."""
    model = build_model(family, layers=LAYERS)
    inputs = prompt(family, [[("video", moving_clip(frames=4)), ("text", "what?")]])
    cls = methods.load(name)
    options = {cls.facts.budget: 0.5}
    if "layer" in cls.__dataclass_fields__:
        options["layer"] = 1
    try:
        with torch.no_grad(), ff.reduce(model, cls(**options)) as reduction:
            tokens = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    except (MissingSignalError, UnsupportedPointError) as error:
        return error.what
    assert tokens.shape[1] == inputs["input_ids"].shape[1] + 2
    assert reduction.report.prompts == 1
    return "yes"


def page() -> str:
    """The text of docs/methods.md."""
    lines = [
        "# Methods",
        "",
        "One paper per file under `framefusion/methods/`, one page per method here. Written by",
        "`python -m scripts.methods_page`; the second table comes from running every method on tiny models.",
        "[`Chain`](methods/chain.md) runs several of them at once; systems that need training are listed",
        "[apart](methods/trained.md). What goes by attention can do so [without its sinks](methods/without_sinks.md).",
        "Methods that merge can give merged tokens",
        "[their weight in attention](proportional-attention.md).",
        "",
        "Most were compared with outputs of their published code, recorded function by function. Some of these",
        "recordings are in this repository; `python -m framefusion.testing tests/golden` runs them, and prints by name",
        "what differs by choice.",
        "",
        "| name | paper | acts | count from | sees the question |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in methods:
        facts = methods.load(name).facts
        paper = f"[{facts.title}]({facts.paper})" if facts.paper else facts.title
        link = f"[`{name}`](methods/{_page_of(name)}.md)"
        lines.append(f"| {link} | {paper} | {facts.stage} | {facts.count} | {'yes' if facts.query_aware else 'no'} |")
    lines += ["", "## On which family", "", "| | " + " | ".join(TITLES[f] for f in FAMILIES) + " |"]
    lines.append("| --- |" + " --- |" * len(FAMILIES))
    notes: list[str] = []
    for name in methods:
        cells = [cell(name, family) for family in FAMILIES]
        shown = []
        for text in cells:
            if text != "yes" and text not in notes:
                notes.append(text)
            shown.append("yes" if text == "yes" else f"no ({notes.index(text) + 1})")
        lines.append(f"| `{name}` | " + " | ".join(shown) + " |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join(lines).rstrip() + "\n"


def _page_of(name: str) -> str:
    """Variants of one paper share a page."""
    return "prumerge" if name == "prumerge_plus" else name


if __name__ == "__main__":
    PAGE.write_text(page())
