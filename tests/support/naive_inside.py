"""A stage inside a vision tower, by hand: the tower runs at full length, and what is gone is hidden from the rest."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.reference import ipcv, tome
from tests.support.tiny import FAMILIES, redraw

NORMS = ("layer_norm2", "norm2", "layernorm_after")
CLASS_TOKEN = ("llava", "internvl", "llava_next_video")
BEHIND = {"llava": 1, "llava_next_video": 1}
"""Blocks behind the layer whose output the projector gets."""


def deep_model(name: str, attn: str = "sdpa", depth: int = 4) -> Any:
    """A toy model whose tower has `depth` blocks."""
    family = FAMILIES[name]
    module, _, kind = family.model_class.rpartition(":")
    config = family.config(2)
    vision = config.vision_config
    for field_name in ("depth", "num_hidden_layers"):
        if hasattr(vision, field_name):
            setattr(vision, field_name, depth)
    if getattr(vision, "fullatt_block_indexes", None):
        vision.fullatt_block_indexes = [1, depth - 1]
    if getattr(vision, "deepstack_visual_indexes", None):
        vision.deepstack_visual_indexes = [0, depth - 2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(import_module(module or "transformers"), kind)._from_config(config, attn_implementation=attn)
    redraw(model, 0)
    return model.eval()


def blocks_of(tower: nn.Module) -> list[Any]:
    lists = (getattr(module, name, None) for module in tower.modules() for name in ("blocks", "layers", "layer"))
    return next(list(found) for found in lists if isinstance(found, nn.ModuleList))


@dataclass
class ByHand:
    """What is left of each picture, as places in it. merges: {"goal": patches left} for ToMe. takes_out: {"count",

    "block", "reading", "neighbours"} for IPCV.
    """

    family: str
    blocks: int
    merges: dict[str, int] | None = None
    takes_out: dict[str, int] | None = None
    alive: list[list[int]] = field(default_factory=list)
    home: list[list[int]] = field(default_factory=list)
    size: list[list[float]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    saved: list[Tensor] = field(default_factory=list)
    near: list[dict[int, list[int]]] = field(default_factory=list)
    entered: Tensor | None = None
    block: int = 0
    first: int = 0

    @property
    def class_token(self) -> bool:
        return self.family in CLASS_TOKEN

    @property
    def reading(self) -> bool:
        how = self.takes_out
        return how is not None and how["block"] <= self.block < how["block"] + how["reading"]

    def begin(self, counts: list[int]) -> None:
        self.starts = [sum(counts[:number]) for number in range(len(counts))]
        self.alive = [list(range(count)) for count in counts]
        self.home = [list(range(count)) for count in counts]
        self.size = [[1.0] * count for count in counts]

    def before_block(self, number: int, hidden: Tensor) -> Tensor:
        self.block, self.first, self.keys = number, 0, []
        rows = hidden.reshape(-1, hidden.shape[-1]).clone()
        how = self.takes_out
        if how is not None and number == how["block"]:
            assert self.entered is not None
            for picture, start in enumerate(self.starts):
                span = slice(start, start + len(self.home[picture]))
                left = rows[span].tolist()
                self.alive[picture] = ipcv.chosen(self.entered[span].tolist(), left, how["count"], self.class_token)
                self.near.append(ipcv.neighbours_of(left, self.alive[picture], how["neighbours"]))
                self.saved.append(rows[span].clone())
        if self.reading:
            rows = self.whole(rows)
        self.entered = rows.clone()
        return rows.view(hidden.shape)

    def whole(self, hidden: Tensor) -> Tensor:
        """The same with the rows of what is gone brought back."""
        rows = hidden.reshape(-1, hidden.shape[-1]).clone()
        for picture, start in enumerate(self.starts):
            span = slice(start, start + len(self.home[picture]))
            if self.saved:
                now = {place: rows[start + place].tolist() for place in self.alive[picture]}
                rows[span] = torch.tensor(ipcv.restored(self.saved[picture].tolist(), now, self.near[picture]))
            else:
                rows[span] = rows[span][self.home[picture]]
        return rows.view(hidden.shape)

    def mask(self, rows: int) -> Tensor:
        """(rows,) of the next rows of this block: how much is added to the logits of each key."""
        found = []
        for picture, sizes in enumerate(self.size):
            alive = set(self.alive[picture])
            found += [math.log(size) if place in alive else -1e9 for place, size in enumerate(sizes)]
        return torch.tensor(found[self.first : self.first + rows])

    def before_mlp(self, residual: Tensor) -> None:
        """Merge in place: a survivor gets the mean of what joined it."""
        if self.merges is None or self.block >= self.blocks:
            return
        rows, keys = residual.view(-1, residual.shape[-1]), torch.cat(self.keys)
        for picture, start in enumerate(self.starts):
            alive = self.alive[picture]
            patches = len(self.home[picture]) - self.class_token
            due = patches - round((patches - self.merges["goal"]) * (self.block + 1) / self.blocks)
            count = max(0, len(alive) - self.class_token - due)
            places = [start + place for place in alive]
            sizes = [self.size[picture][place] for place in alive]
            metric = keys[places].mean(1).tolist()
            joins = tome.joins_of(metric, count, self.class_token)
            merged, sizes, left = tome.merge_block(rows[places].tolist(), metric, sizes, count, self.class_token)
            joined = {alive[place]: alive[partner] for place, partner in joins.items()}
            self.home[picture] = [joined.get(home, home) for home in self.home[picture]]
            self.alive[picture] = [alive[place] for place in left]
            for place, values, size in zip(self.alive[picture], merged, sizes, strict=True):
                rows[start + place] = torch.tensor(values)
                self.size[picture][place] = size


def outputs_by_hand(tower: Any, hand: ByHand, given: dict[str, Any]) -> Any:
    """What the tower of a model with eager attention returns."""
    blocks, handles = blocks_of(tower), []
    grid = given.get("grid_thw")

    def entering(number: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            if number == 0:
                counts = [hidden.shape[1]] * hidden.shape[0] if grid is None else per_picture(grid)
                hand.begin(counts)
            hidden = hand.before_block(number, hidden)
            return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

        return hook

    for number, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(entering(number), with_kwargs=True))
        norm = next(getattr(block, name) for name in NORMS if hasattr(block, name))
        handles.append(norm.register_forward_pre_hook(lambda module, args: hand.before_mlp(args[0])))
    for block in {blocks[-1], blocks[hand.blocks - 1]}:
        handles.append(block.register_forward_hook(lambda module, args, output: hand.whole(output), prepend=True))
    for merger in getattr(tower, "deepstack_merger_list", ()):
        handles.append(merger.register_forward_pre_hook(lambda module, args: (hand.whole(args[0]), *args[1:])))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        for name in {type(module).__module__ for module in tower.modules()}:
            stock = getattr(sys.modules[name], "eager_attention_forward", None)
            if stock is not None:
                patch.setattr(sys.modules[name], "eager_attention_forward", _hiding(stock, hand))
        found = tower(**given)
    for handle in handles:
        handle.remove()
    return found


def per_picture(grid: Tensor) -> list[int]:
    return [height * width for frames, height, width in grid.tolist() for _ in range(frames)]


def _hiding(stock: Any, hand: ByHand) -> Any:
    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any) -> Any:
        batch, rows = key.shape[0], key.shape[2]
        hand.keys.append(key.transpose(1, 2).flatten(0, 1))
        hidden = hand.mask(batch * rows).view(batch, 1, 1, rows)
        hand.first += batch * rows
        if not hand.reading:
            attention_mask = hidden if attention_mask is None else attention_mask + hidden
        return stock(module, query, key, value, attention_mask, **options)

    return eager
