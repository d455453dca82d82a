"""The page `docs/models.md`, made from the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from framefusion.core.registry import families

if TYPE_CHECKING:
    from framefusion.models.table import Row

HEAD = """\
# Models

This page is written by `python -m framefusion.testing.conformance`, which builds a tiny model of every
image-text-to-text architecture of transformers and of Phi-4 multimodal, runs it reduced and compares it with its bare
layers on gathered tensors; `make test` repeats every row. `framefusion models --json` prints the same table.

A **point** is where a method may act: on the prompt in front of the first layer, before a later layer, or between a
layer's attention and its MLP. Blocks that have no such place between the two (parallel blocks, blocks with several
residual streams, blocks of one mixer each, blocks that flatten the batch for their MLP) act after the layer, and the
report says so. **Tower** says whether the prompt's pictures went through the vision tower in this check; random
features stood for them elsewhere.

**Video** and **pictures** say whether the layout is right on prompts that the family's own processor makes with the
defaults of its classes: one place of one frame is changed, and the tokens that move must be those of that clip, frame,
row and column. The prompts hold a moving clip of an odd number of frames, a static one, two clips, the same clip
twice, a picture with a clip; one picture, two, the same one twice, five of two shapes, and a wide one. "transformers
refuses" names those that its processor or model does not take, "reads the first alone" those whose later pictures it
passes over without a word, "not run" says why nothing could be looked at.

**Pixels** says whether the vision tower can leave out what does not change ([PixelDedup](methods/pixel_dedup.md)):
"exact" where a clip that stands still was encoded once and answered as without the method, to the bit, and a moving one
in windows of frames as all at once; "refused" where it is not known that the tower encodes every picture apart from the
others.

## Where the visual tokens are

A family with a **rule** has a file in `framefusion/models/` that knows its frames, rows and newline tokens. For all
others the default holds. Where the processor returns grids (`image_grid_thw`, `video_grid_thw`) that account for all
placeholders, they give frames, rows and columns. Elsewhere every unbroken run of the placeholder that the
configuration names (`image_token_id`, `video_token_id` and their like) is one picture: a square number of tokens is a
square grid and any other number one row. Still pictures have one frame each: nothing is merged from one into another.
Where a clip has to be shown as pictures, `framefusion.reduce(..., pictures_are_frames=True)` says that neighbouring
pictures of one size are its frames.

Text between two runs, time stamps too, stays where it is, and so do audio tokens: no method sees or removes them.
Newline tokens belong to the row they close and go when the last patch of the row goes. A model whose configuration
names no placeholder needs `framefusion.reduce(model, method, layout=...)`; its rule reads `layout=` below.
"""


def _rule(row: Row) -> str:
    if row.name in families:
        return "yes"
    return "" if row.named else "`layout=`"


def _cell(verdict: str) -> str:
    return verdict.replace("|", "\\|").replace("\n", " ")


def page(table: Mapping[str, Row]) -> str:
    good = [row for row in table.values() if row.supported]
    bad = [row for row in table.values() if not row.supported]
    lines = [
        HEAD,
        f"## Supported: {len(good)}",
        "",
        "| family | rule | points | tower | video | pictures | pixels |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in good:
        rule, pictures = _rule(row), "tower" if row.pictures else "features"
        cells = (f"`{row.name}`", rule, ", ".join(row.points), pictures, row.video, row.stills, row.encoding)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += ["", f"## Not supported: {len(bad)}", ""]
    lines += ["`framefusion.reduce` raises `UnsupportedModelError` with this reason.", ""]
    lines += ["| family | reason |", "|---|---|", *(f"| `{row.name}` | {row.reason} |" for row in bad)]
    return "\n".join(lines) + "\n"
