"""What a visual token must know of the thing it shows: what that is, what it was like before, and what happened.

Each step is one look back in time, so each is taught to the layer that can take it. All colours share the same numbers:
a token speaks of the thing nearest to its middle.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from framefusion.evaluation.synthetic_questions.questions import DIGITS
from framefusion.evaluation.synthetic_questions.scene import CHANGES, COLOURS, DIRECTIONS, SHAPES
from training.architecture import GRID, WIDTH
from training.facts import FINE
from training.labels import NOTHING, WAYS
from training.packing import VISUAL
from training.story import BEFORE, LONG_BEFORE, VIEWED

LOOK = {"place": 2, "shape": len(SHAPES), "radius": 1}
# What is read after which layer, and how many numbers it takes.
EVENTS = {"middle": 2, "flash": len(COLOURS), "digit": len(DIGITS)}
SHOWN = {"row": GRID, "column": GRID, "frame": 1, "colour": len(COLOURS), **LOOK, **EVENTS}
REMEMBERED = {**{name + BEFORE: size for name, size in LOOK.items()}, "place" + LONG_BEFORE: 2, "view" + BEFORE: VIEWED}
HAPPENED = {"way": len(WAYS), "speed": 1, "motion": 2, "age": 1, "change": 1 + len(CHANGES)}
AFTER = {1: SHOWN, 2: REMEMBERED, 3: HAPPENED}
# Layers that learn them. They stay the first ones when a model grows.
LOWER = 4
# Tokens near a change are one in fifty: without weights it is never seen.
RARE = torch.tensor([0.1, *[1.0] * len(CHANGES)])
# Row and column of each of WAYS.
STEPS = torch.tensor([(0.0, 0.0), *DIRECTIONS.values()])


class StateHeads(torch.nn.Module):
    """Linear readers of the hidden states behind the layers of AFTER."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleDict({str(layer): torch.nn.RMSNorm(WIDTH) for layer in AFTER})
        self.heads = torch.nn.ModuleDict(
            {str(layer): torch.nn.Linear(WIDTH, sum(sizes.values())) for layer, sizes in AFTER.items()}
        )
        self.hidden: dict[int, torch.Tensor] = {}
        for layer in AFTER:
            layers[layer].register_forward_hook(partial(self._keep, layer))

    def _keep(self, layer: int, module: Any, inputs: Any, output: Any) -> None:
        self.hidden[layer] = output if isinstance(output, torch.Tensor) else output[0]

    def forward(self, start: int, stop: int) -> dict[str, torch.Tensor]:
        """What is read from the columns `start` to `stop`, (B, n, numbers) each."""
        read: dict[str, torch.Tensor] = {}
        for layer, sizes in AFTER.items():
            hidden = self.norms[str(layer)](self.hidden[layer][:, start:stop].float())
            read |= zip(sizes, self.heads[str(layer)](hidden).split(list(sizes.values()), -1), strict=True)
        return read


def states_loss(
    read: dict[str, torch.Tensor], chosen: dict[str, torch.Tensor], kept: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Losses by name. read: see StateHeads. chosen: features and story (see retell) of the tokens `kept`, (B, n)."""
    here = chosen["here"]
    losses = {
        "row": F.cross_entropy(read["row"].flatten(0, 1), (kept // GRID % GRID).flatten()),
        "column": F.cross_entropy(read["column"].flatten(0, 1), (kept % GRID).flatten()),
        "frame": FINE * F.smooth_l1_loss(read["frame"].squeeze(-1), kept.float() / VISUAL, beta=0.1),
        "colour": F.cross_entropy(read["colour"][here], chosen["colour"][here]),
    }
    for suffix, names in (("", LOOK), (BEFORE, LOOK), (LONG_BEFORE, ("place",))):
        known = chosen["here" + suffix]
        losses |= {name + suffix: _look_loss(name, read[name + suffix], chosen[name + suffix], known) for name in names}
    view, left = "view" + BEFORE, chosen["left" + BEFORE]
    losses[view] = F.mse_loss(read[view][left], chosen[view][left], reduction="sum") / max(1, int(left.sum()) * VIEWED)
    losses |= {name: _class_loss(read[name], chosen[name]) for name in EVENTS}
    return losses | _happened_loss(read, chosen)


def _class_loss(read: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """truth: (B, n), NOTHING where there is nothing to tell."""
    truth = truth.long()
    known = truth != NOTHING
    return F.cross_entropy(read[known], truth[known], reduction="sum") / known.sum().clamp(min=1)


def _look_loss(name: str, read: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    if name == "shape":
        parts = F.cross_entropy(read[known], truth[known].long(), reduction="none")
    else:
        wanted = truth[known].view(-1, read.shape[-1])
        parts = FINE * F.smooth_l1_loss(read[known], wanted, beta=0.1, reduction="none")
    # Of so few frames there may be nothing before.
    return parts.sum() / max(1, parts.numel())


def _happened_loss(read: dict[str, torch.Tensor], chosen: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    way, speed, age = (_of_main(chosen[name], chosen["colour"]) for name in ("way", "speed", "age"))
    here, moving, way = chosen["here"], way != NOTHING, way.long()
    motion = STEPS[way[moving]] * speed[moving][:, None]
    return {
        "way": F.cross_entropy(read["way"][moving], way[moving]),
        "speed": FINE * F.smooth_l1_loss(read["speed"].squeeze(-1)[moving], speed[moving], beta=1.0),
        "motion": FINE * F.smooth_l1_loss(read["motion"][moving], motion, beta=1.0),
        "age": FINE * F.smooth_l1_loss(read["age"].squeeze(-1)[here], age[here], beta=0.1),
        "change": F.cross_entropy(read["change"].flatten(0, 1), chosen["change"].long().flatten(), weight=RARE),
    }


def _of_main(values: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """values: (B, n, K). (B, n): those of one colour each."""
    return values.gather(-1, colour[..., None]).squeeze(-1).float()
