"""The drawn figures of docs/how-it-works.md: `python -m scripts.figures` writes them.

They are read on light and dark pages alike, by colours that stand out from both and no background of their own.
"""

from __future__ import annotations

from pathlib import Path

from framefusion.core.method import Method
from framefusion.core.registry import methods

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "how-it-works"
INK, KEPT, MERGED, PRUNED = "#7b8794", "#1f9e89", "#4c8bf5", "#e8833a"
CELL, GAP = 26, 4

# What becomes of the nine tokens of each frame: M joins the one before, P is pruned, K is kept.
FRAMES = ("KPKPKPPPK", "MMMMKMMMM", "MMKMMMMMM")


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = f"text{{font:13px sans-serif;fill:{INK}}}.small{{font-size:12px}}.head{{font-weight:bold}}"
    return "\n".join(
        [f'{head} role="img">', f"<title>{title}</title>", f"<style>{style}</style>", *parts, "</svg>", ""]
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{words}</text>'


def box(x: float, y: float, colour: str, width: float = CELL, height: float = CELL, look: str = "") -> str:
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect x="{x:g}" y="{y:g}" {size} rx="4" fill="{colour}"{look}/>'


def gone(x: float, y: float, colour: str) -> str:
    dashes = f' fill-opacity="0.12" stroke="{colour}" stroke-width="1.5" stroke-dasharray="4 3"'
    return box(x + 1, y + 1, colour, CELL - 2, CELL - 2, dashes)


def frame(x: float, y: float, states: str, step: int) -> list[str]:
    """Nine tokens, as they are before anything (0), after merging (1) and after pruning (2)."""
    parts = []
    for place, state in enumerate(states):
        left, top = x + place % 3 * (CELL + GAP), y + place // 3 * (CELL + GAP)
        if step == 0:
            parts.append(box(left, top, KEPT))
        elif state == "M":
            parts.append(gone(left, top, MERGED))
        elif state == "P" and step == 2:
            parts.append(gone(left, top, PRUNED))
        else:
            parts.append(box(left, top, KEPT))
    return parts


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = INK) -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{colour}" stroke-width="1.5" marker-end="url(#tip)"/>'


def tip(colour: str = INK) -> str:
    shape = f'<path d="M0 0L8 4L0 8z" fill="{colour}"/>'
    where = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    return f'<defs><marker id="tip" {where}>{shape}</marker></defs>'


def tokens() -> str:
    """Frames of tokens: all, then merged along time, then pruned."""
    side = 3 * CELL + 2 * GAP
    parts = [tip()]
    heads = ("all tokens", "merged along time", "pruned by the question")
    for step, head in enumerate(heads):
        left = 70 + step * (side + 140)
        counts = sum(state == "K" or (state == "P" and step < 2) or step == 0 for row in FRAMES for state in row)
        parts.append(text(left + side / 2, 20, head, "head"))
        for number, states in enumerate(FRAMES):
            parts += frame(left, 36 + number * (side + 18), states, step)
        parts.append(text(left + side / 2, 36 + 3 * (side + 18) + 4, f"{counts} tokens"))
        if step:
            middle = 36 + 1.5 * (side + 18) - 9
            parts.append(arrow(left - 122, middle, left - 18, middle))
            parts.append(text(left - 70, middle - 8, ("merge", "prune")[step - 1], "small"))
    for number in range(3):
        parts.append(text(58, 40 + number * (side + 18) + side / 2, f"frame {number + 1}", "small", "end"))
    bottom = 36 + 3 * (side + 18) + 30
    for x, mark, words in ((140, box, "kept"), (250, gone, "merged into the frame before"), (480, gone, "pruned")):
        colour = {"kept": KEPT, "pruned": PRUNED}.get(words, MERGED)
        parts.append(mark(x, bottom, colour))
        parts.append(text(x + CELL + 8, bottom + 17, words, "small", "start"))
    return svg(70 + 3 * side + 280 + 70, int(bottom + CELL + 10), "What becomes of the tokens of three frames", parts)


# Share of the visual tokens that layers read: merging at three points, then pruning.
READ = (0.62, 0.46, 0.4, 0.36, *[0.22] * 8)
TEXT = 0.08


def layers() -> str:
    """What each layer reads, and the mean."""
    tall, wide, base, left = 180, 30, 224, 64
    parts = [text(left + 3 * (wide + 8), 18, "merging", "head"), text(left + 8.5 * (wide + 8), 18, "pruned", "head")]
    end = left + 13 * (wide + 8)
    for number, share in enumerate((1.0, *READ)):
        x = left + number * (wide + 8)
        parts.append(box(x, base - tall * TEXT, INK, wide, tall * TEXT))
        high = tall * share * (1 - TEXT)
        parts.append(
            box(x, base - tall * TEXT - 2 - high, KEPT, wide, high, ' fill-opacity="0.55"' if not number else "")
        )
        parts.append(text(x + wide / 2, base + 16, "prompt" if not number else str(number - 1), "small"))
    mean = sum(READ) / len(READ)
    y = base - tall * TEXT - 2 - tall * mean * (1 - TEXT)
    parts.append(
        f'<path d="M{left + wide + 8} {y:g}H{end}" stroke="{PRUNED}" stroke-width="2" stroke-dasharray="6 4"/>'
    )
    parts.append(text(end + 4, y + 4, f"mean: cost {mean:.1f}", "small", "start"))
    parts.append(text(end + 4, base - 4, "text", "small", "start"))
    parts.append(text(end - 4.5 * (wide + 8), base + 36, "layers of the language model"))
    return svg(end + 100, base + 46, "What each layer of the language model reads", parts)


# Parts of a model from the file to the answer, with what `MethodFacts.stage` begins with for methods that act there.
PARTS = {
    "frames": ("in front of the vision tower",),
    "vision tower": ("inside the vision tower",),
    "projector": ("in front of the projector",),
    "prompt": ("prompt", "before layer 0"),
    "layers": ("before a layer", "before several layers", "before layer 0 to choose"),
}


def part_of(cls: type[Method]) -> str:
    """The part in which a method acts first; one that acts before a layer of choice, where it does by default."""
    if getattr(cls(), "layer", None) == 0:
        return "prompt"
    matches = {start: part for part, starts in PARTS.items() for start in starts if cls.facts.stage.startswith(start)}
    return matches[max(matches, key=len)]


def places() -> str:
    """The parts of a model, and under each the methods whose first point is there."""
    found = {name: part_of(methods.load(name)) for name in methods}
    wide, high, gap, top = 118, 40, 44, 14
    parts, lowest = [tip()], 0.0
    for number, part in enumerate(PARTS):
        x = 10 + number * (wide + gap)
        parts.append(box(x, top, KEPT, wide, high, ' fill-opacity="0.25"'))
        parts.append(text(x + wide / 2, top + high / 2 + 5, part, "head"))
        if number:
            parts.append(arrow(x - gap + 4, top + high / 2, x - 4, top + high / 2))
        names = [name for name, place in found.items() if place == part]
        parts += [text(x + wide / 2, top + high + 24 + 17 * n, name, "small") for n, name in enumerate(names)]
        lowest = max(lowest, top + high + 24 + 17 * len(names))
    return svg(20 + len(PARTS) * (wide + gap) - gap, int(lowest), "Where each method acts first", parts)


FIGURES = {"tokens.svg": tokens, "layers.svg": layers, "places.svg": places}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
