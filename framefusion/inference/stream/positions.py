"""Positions of what a stream reads: those that the one prompt of all its frames would have."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.model.parts import ModelParts

SPATIAL = slice(1, None)
DIGITS = 4
FAR = 64


@dataclass(frozen=True)
class Clock:
    """Where the next columns go.

    text: position of text that follows now. top: one more than the highest position so far, from which answers count.
    base: position at which a clip began that goes on, None before. follows: words stand behind the last frame of that
    clip, not behind its first one. shift: taken off its times since. seconds, step: time of its last step, and the
    position of that in time since the clip began, nothing taken off.
    """

    text: int = 0
    top: int = 0
    base: int | None = None
    follows: bool = False
    shift: int = 0
    seconds: float = 0.0
    step: int = 0

    def moved_on(self, positions: Tensor, text: int) -> Clock:
        return replace(self, text=text, top=max(self.top, int(positions.max()) + 1, text))

    def moved_down(self, down: int, top: int) -> Clock:
        """Everything moved by `down` positions, of a clip that goes on its times alone. top: as it is then."""
        if self.base is None:
            return replace(self, text=self.text - down, top=max(top, self.text - down))
        text = max(top, self.text - down) if self.follows else self.text
        return replace(self, text=text, top=max(top, text), shift=self.shift + down)


class Planes:
    """How a model numbers columns: one plane, or the planes of M-RoPE as its own code fills them."""

    def __init__(self, parts: ModelParts) -> None:
        found = (
            getattr(entry, "get_rope_index", None) for entry in (*parts.entries, getattr(parts.model, "model", None))
        )
        self._index: Any = next(filter(callable, found), None)
        self._takes = set() if self._index is None else set(inspect.signature(self._index).parameters)
        self._follows: bool | None = None
        self._cuts: bool | None = None
        self._per_second: Any = getattr(getattr(parts.config, "vision_config", None), "tokens_per_second", None)

    @property
    def count(self) -> int:
        return 1 if self._index is None else 3

    def of_text(self, clock: Clock, count: int) -> tuple[Tensor, Clock]:
        """(P, count) positions of words, and the clock behind them."""
        positions = torch.arange(clock.text, clock.text + count).expand(self.count, -1)
        return positions, clock.moved_on(positions, clock.text + count) if count else clock

    def of_window(
        self, clock: Clock, inputs: Mapping[str, Any], text_id: int, times: Tensor, joins: bool
    ) -> tuple[Tensor, Clock]:
        """(P, n) positions of the columns of a window, and the clock behind them.

        inputs: of the model for these columns. text_id: of any word. times: (n,) seconds since the first frame, -1 for
        words. joins: its frames continue the clip of the window before, without a word between them.
        """
        if self._index is None:
            return self.of_text(clock, inputs["input_ids"].shape[1])
        local, after = self._local(inputs, text_id)
        if not joins:
            return local + clock.text, clock.moved_on(local + clock.text, clock.text + after)
        visual = times >= 0
        first = local[0, visual][0]
        base = int(first) if clock.base is None else clock.base
        positions = local.clone()
        positions[SPATIAL, visual] += base - first
        steps, clock = self._steps(clock, times[visual], inputs, text_id)
        positions[0, visual] = base - clock.shift + steps
        follows = self._text_follows_time(inputs, text_id)
        text = int(positions.max()) + 1 if follows else base + after - int(first)
        return positions, replace(clock, base=base, follows=follows).moved_on(positions, text)

    def _steps(self, clock: Clock, times: Tensor, inputs: Mapping[str, Any], text_id: int) -> tuple[Tensor, Clock]:
        """Positions in time since the clip began, and the clock behind them; without a rate each time is one step."""
        steps, seconds, step = [], clock.seconds, clock.step
        different, column = times.unique_consecutive(return_inverse=True)
        for time in different.tolist():
            if self._per_second is None:
                step += time > seconds
            elif self._cuts_spacing(inputs, text_id):
                step += self._per_second * int(round(time - seconds, DIGITS))
            else:
                step = floor(round(time * self._per_second, DIGITS))
            seconds = time
            steps.append(step)
        return torch.tensor(steps)[column], replace(clock, seconds=seconds, step=step)

    def _cuts_spacing(self, inputs: Mapping[str, Any], text_id: int) -> bool:
        """Whether the release takes whole seconds alone from one step to the next."""
        if self._cuts is None:
            far = self._far(inputs) | {"second_per_grid_ts": torch.tensor([1.5])}
            local, _ = self._local(far, text_id)
            self._cuts = int(local[0].max()) < floor(1.5 * (FAR - 1) * self._per_second)
        return self._cuts

    def _far(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A clip of many steps, each as large as those of a window."""
        grid, types = inputs["video_grid_thw"][:1].clone(), inputs["mm_token_type_ids"]
        visual = types[0] == types.max()
        count = int(visual.sum()) * FAR // int(grid[0, 0])
        grid[:, 0] = FAR
        return {
            "input_ids": inputs["input_ids"][:, visual][:, :1].expand(1, count),
            "mm_token_type_ids": types.max().expand(1, count),
            "video_grid_thw": grid,
        }

    def _local(self, inputs: Mapping[str, Any], text_id: int) -> tuple[Tensor, int]:
        """(P, n) positions of the columns as if they began a prompt, and that of a word behind them."""
        assert self._index is not None
        given = {name: value for name, value in inputs.items() if name in self._takes and name != "attention_mask"}
        ids = given["input_ids"]
        given["input_ids"] = torch.cat([ids, torch.full_like(ids[:, :1], text_id)], 1)
        types = given.get("mm_token_type_ids")
        if types is not None:
            given["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(types[:, :1])], 1)
        positions = self._index(**given)[0][:, 0].cpu()
        return positions[:, :-1], int(positions[0, -1])

    def _text_follows_time(self, inputs: Mapping[str, Any], text_id: int) -> bool:
        """Whether words behind a clip stand behind its last frame, or behind its first: releases differ."""
        if self._follows is None:
            local, after = self._local(self._far(inputs), text_id)
            self._follows = after > int(local[0].max())
        return self._follows
