"""What a word of a question stands for in the clip: the teacher of the layers that look it up.

A question is answered in two steps: its words find what they name, then the answer is put together. Answers alone teach
neither until both are there; these labels teach the first by itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from framefusion.evaluation.synthetic_questions import FRAMES, SIDE, Scene
from framefusion.evaluation.synthetic_questions.questions import COUNTS, DIGITS
from framefusion.evaluation.synthetic_questions.scene import CHANGES, COLOURS, SHAPES, Thing
from training.labels import COLOUR_NAMES, NOTHING, WAYS

# Classes per fact; 0 for a number.
FACTS = {
    "shape": len(SHAPES),
    "way": len(WAYS),
    "colour": len(COLOURS),
    "digit": len(DIGITS),
    "count": len(COUNTS),
    "change": len(CHANGES),
    "row": 0,
    "column": 0,
    "speed": 0,
    "age": 0,
}
# Words for what a visual token may show: the colour of its thing, any thing, or an event.
TAGS = (*COLOURS, "things", "flashed", "digit", "changed")
Facts = dict[str, float]
UNKNOWN = math.nan
# Numbers are small, with small errors; this brings them level with the classes.
FINE = 10.0


def facts_of(scene: Scene, word: str) -> Facts:
    """What `word` says of `scene`, by name of FACTS; nothing for most words."""
    if word in COLOURS:
        named = [thing for thing in scene.things if thing.colour == word]
        return _of_thing(named[0]) if named else {}
    if word in SHAPES:
        alike = [thing for thing in scene.things if thing.shape == word]
        return {"colour": COLOUR_NAMES.index(alike[0].colour)} if len(alike) == 1 else {}
    if word == "things" and 2 <= len(scene.things) <= 6:
        return {"count": COUNTS.index(str(len(scene.things)))}
    if word == "flashed" and scene.flash is not None:
        return {"colour": COLOUR_NAMES.index(scene.flash.colour)}
    if word == "digit" and scene.digit is not None:
        return {"digit": scene.digit.value}
    if word == "changed" and scene.change is not None:
        return {"change": CHANGES.index(scene.change.what)}
    return {}


def points_at(scene: Scene, word: str) -> int:
    """The tag (of TAGS) of the visual tokens that show what `word` names; NOTHING for most words."""
    if word in TAGS and word not in COLOURS:
        return TAGS.index(word)
    named = [thing for thing in scene.things if word in (thing.colour, thing.shape)]
    return COLOUR_NAMES.index(named[0].colour) if len(named) == 1 else NOTHING


def _of_thing(thing: Thing) -> Facts:
    row, column = thing.end
    return {
        "shape": SHAPES.index(thing.shape),
        "way": WAYS.index(thing.direction),
        "row": row / SIDE,
        "column": column / SIDE,
        "speed": thing.speed / 2,
        "age": thing.appears / FRAMES,
    }


def vector(facts: Facts) -> list[float]:
    """One number per name of FACTS, UNKNOWN where there is none."""
    return [facts.get(name, UNKNOWN) for name in FACTS]


class FactHead(torch.nn.Module):
    """Reads all facts from the hidden states behind `layer` by one linear layer."""

    def __init__(self, width: int, layer: torch.nn.Module) -> None:
        super().__init__()
        layer.register_forward_hook(self._keep)
        self.norm = torch.nn.RMSNorm(width)
        self.linear = torch.nn.Linear(width, sum(max(1, classes) for classes in FACTS.values()))

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        self.hidden = output if isinstance(output, torch.Tensor) else output[0]

    def forward(self, start: int, truth: torch.Tensor) -> torch.Tensor:
        """truth: (B, M, names of FACTS), of the columns from `start` on. The sum over facts of the mean loss where
        something is known."""
        told, hidden = ~truth.isnan().all(-1), self.hidden[:, start:]
        truth, read = truth[told], self.linear(self.norm(hidden[told].float()))
        total = read.new_zeros(())
        parts = read.split([max(1, classes) for classes in FACTS.values()], -1)
        for place, (classes, part) in enumerate(zip(FACTS.values(), parts, strict=True)):
            known = ~truth[:, place].isnan()
            if not known.any():
                continue
            wanted = truth[known, place]
            if classes:
                total = total + F.cross_entropy(part[known], wanted.long())
            else:
                total = total + FINE * F.smooth_l1_loss(part[known, 0], wanted, beta=0.1)
        return total
