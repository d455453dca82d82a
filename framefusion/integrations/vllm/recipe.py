"""What is decided about one video before anything is encoded, and travels with it to the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import Geometry
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Signals
    from framefusion.core.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """One video's reduction.

    frames, rows, columns: its grid of visual tokens. newline: one token closes it.
    kept: patches that stay. method, options: as in `Settings`.
    """

    frames: int
    rows: int
    columns: int
    newline: bool
    kept: int
    method: str
    options: dict[str, Any]

    @staticmethod
    def write(settings: Settings | None, grid: tuple[int, int, int], newline: bool, changed: int = 0) -> Recipe:
        """changed: tokens behind the first frame that are encoded, where pixels decide. No settings keep all."""
        frames, per_frame = grid[0], grid[1] * grid[2]
        if settings is None:
            return Recipe(*grid, newline, frames * per_frame, "uniform", {})
        rule = RULES[settings.method]
        if isinstance(settings.keep, str) or rule.before_tower:
            kept = rule.count_from_pixels(changed, frames, per_frame)
        else:
            kept = rule.count(settings.keep, frames, per_frame)
        return Recipe(*grid, newline, kept, settings.method, dict(settings.options))

    @property
    def patches(self) -> int:
        return self.frames * self.rows * self.columns

    @property
    def total(self) -> int:
        """Visual tokens before."""
        return self.patches + int(self.newline)

    @property
    def total_kept(self) -> int:
        """Visual tokens after; at least one patch stays, so the newline does."""
        return self.kept + int(self.newline)

    @property
    def keeps_all(self) -> bool:
        return self.kept == self.patches

    def geometry(self) -> Geometry:
        """Of the N visual tokens, in prompt order."""
        whole = Geometry.grid(self.frames, self.rows, self.columns)
        if not self.newline:
            return whole
        return Geometry.cat([whole, Geometry.newline(self.frames - 1, self.rows * self.columns)])

    def plan(self, signals: Signals) -> Plan:
        """The method's decision, which keeps exactly `total_kept` tokens: the prompt was made for them."""
        rule = RULES[self.method]
        keep = self.kept // self.frames if rule.per_frame else self.kept
        plan = rule.decider(keep, self.options)(signals)
        if plan.kept != self.total_kept:
            raise AssertionError(f"`{self.method}` kept {plan.kept} tokens where {self.total_kept} have room")
        return plan

    def pack(self) -> Tensor:
        """As bytes: only tensors travel between the engine's processes."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @staticmethod
    def unpack(data: Tensor) -> Recipe:
        return Recipe(**json.loads(bytes(data.tolist())))
