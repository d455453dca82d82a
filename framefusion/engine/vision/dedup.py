"""Let a stage decide from pixels what the vision tower encodes, and run its blocks on that alone.

The tower's own forward runs untouched: what enters its first block is cut to the encoded rows, what its blocks are
handed along with it too, and what leaves the last block, or a merger, is spread over all rows again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.model import calls
from framefusion.engine.vision.blend import Blend
from framefusion.engine.vision.encoded import Encoded, first_rows, unit_grids
from framefusion.engine.vision.pixels import clips_of, no_grid
from framefusion.engine.vision.rows import Carried, EncodedRows
from framefusion.engine.vision.run import TowerRun
from framefusion.engine.vision.signals import Pictures
from framefusion.engine.vision.tower_blocks import lists_of_blocks
from framefusion.models.pixel_range import PixelRange

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.layout import Layout
    from framefusion.core.stage import PixelStage

MERGERS = ("merger", "deepstack_merger_list")


class PixelHooks:
    """Hooks of one stage on one tower.

    coming_layout: () -> layout of the prompt that is being encoded, None when it is not known. known: (video) -> how
    pixels were normalised.
    """

    def __init__(
        self,
        stage: PixelStage,
        tower: nn.Module,
        coming_layout: Callable[[], Layout | None],
        known: Callable[[bool], PixelRange],
    ) -> None:
        self.stage, self.tower = stage, tower
        self.coming_layout, self.known = coming_layout, known
        self.blocks = _blocks(tower)
        children = dict(tower.named_children())
        self.embedding = children.get("patch_embed")
        self.mergers = [children[name] for name in MERGERS if name in children]
        self._parameters = calls.parameters_of(tower)

    def attach(self) -> Iterator[Any]:
        yield self.tower.register_forward_pre_hook(self._before_tower, with_kwargs=True)
        if self.embedding is not None:
            yield self.embedding.register_forward_pre_hook(self._before_embedding)
            yield self.embedding.register_forward_hook(self._after_embedding)
        for number, block in enumerate(self.blocks):
            yield block.register_forward_pre_hook(self._before_block(number), with_kwargs=True)
        if not self.mergers:
            yield self.blocks[-1].register_forward_hook(self._expand)
        for part in self.mergers:
            for module in part if isinstance(part, torch.nn.ModuleList) else (part,):
                yield module.register_forward_hook(self._expand_groups)
        yield self.tower.register_forward_hook(self._after_tower)

    def _before_tower(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        run, layout = context.tower(), self.coming_layout()
        if run is None or run not in context.tower_runs() or layout is None:
            return
        given, pixels = calls.by_name(self._parameters, args, kwargs), calls.first_tensor(args, kwargs)
        assert pixels is not None
        pictures = Pictures(context.tower_runs(), layout)
        places = pictures.of_kind(run)
        clips = list(clips_of(places, layout))
        grids = unit_grids(module, given, pixels, [group.numel() for _, group in places])
        if len(grids) != len(places):
            if all(len(clip) == 1 for clip in clips):
                return  # stills cut into tiles have nothing in front of them to repeat
            raise no_grid(module, f"it encodes {len(grids)} pictures at once where the prompt shows {len(places)}")
        if any(len({grids[number] for number in clip}) > 1 for clip in clips):
            raise no_grid(module, "frames of one clip have unlike sizes")
        run.encoded = Encoded.decide(self.stage, pixels, clips, grids, self.known(pictures.is_video(run)))
        own, every = run.encoded.patches()
        for number in range(len(self.blocks)):
            run.worked(number, own, own, every)

    def _before_embedding(self, module: nn.Module, args: tuple) -> tuple | None:
        """Patches that are not encoded are not embedded either."""
        run = context.tower()
        if run is None or run.encoded is None or not run.grouped or not run.encoded.partial:
            return None
        run.rows = rows = self._rows(run, run.encoded, args[0])
        return (rows.cut_patches(args[0]), *args[1:])

    def _after_embedding(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        rows = _rows_of(context.tower())
        return None if rows is None or output.shape[0] != rows.keep.numel() else rows.expand_patches(output)

    def _rows(self, run: TowerRun, encoded: Encoded, hidden: Tensor) -> EncodedRows:
        """Of the window under way. hidden: (S, D) of patches, or (B, P, D) as it enters the first block."""
        shape = None if run.grouped else (hidden.shape[0], hidden.shape[1])
        width = None if shape is None else shape[1]
        least = encoded.grids[0].merge ** 2
        count = len(encoded.grids) if run.window is None else run.window.last - run.window.first
        if shape is not None and (shape[0] != count or shape[1] < encoded.grids[0].patches):
            raise no_grid(self.tower, f"{count} pictures of {encoded.grids[0].patches} patches enter as {shape} rows")
        shown = encoded.shown_rows(width).to(hidden.device)
        order = None if run.order is None else _order_of_rows(run.order.to(shown), least)
        if run.window is None:
            return EncodedRows(shown, order, shape, self.stage.reuse)
        starts = first_rows([grid.patches if width is None else width for grid in encoded.grids])
        start, end = starts[run.window.first], starts[run.window.last]
        if run.window.first == 0:
            self._carried = Carried(shown[:0])
        later = shown[end:][shown[end:] < end].unique()
        order = None if order is None else order[start:end] - start
        return EncodedRows(shown[start:end], order, shape, self.stage.reuse, start, self._carried, later, least)

    def _before_block(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            run = context.tower()
            if run is None or run.encoded is None:
                return None
            hidden = calls.hidden_in(args, kwargs)
            if number == 0 and run.encoded.partial and (self.embedding is None or not run.grouped):
                run.rows = self._rows(run, run.encoded, hidden)
            rows = _rows_of(run)
            if rows is None:
                return None
            self._check(number, module, rows)
            if number == 0:
                hidden = rows.cut_hidden(hidden)
            return calls.with_hidden(args, rows.arguments(kwargs, partial(no_grid, self.tower)), hidden)

        return hook

    def _check(self, number: int, block: Any, rows: EncodedRows) -> None:
        """Before block `number`: earlier ones let their pictures be gathered, and none will run a second time."""
        if rows.calls < number:
            why = "its attention does not go through transformers' attention interface"
            raise no_grid(self.tower, f"{why}, where the patches of a picture are gathered")
        if getattr(block, "gradient_checkpointing", False) and block.training and torch.is_grad_enabled():
            raise no_grid(self.tower, "gradient checkpointing would run its blocks again, when the prompt is over")

    def _expand(self, module: nn.Module, args: tuple, output: Any) -> Any:
        rows = _rows_of(context.tower())
        return None if rows is None else calls.change_returned(output, partial(rows.expand, place=module))

    def _expand_groups(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        rows = _rows_of(context.tower())
        return None if rows is None else rows.expand_groups(output, module)

    def _after_tower(self, module: nn.Module, args: tuple, output: Any) -> Any:
        run = context.tower()
        if run is None or run.rows is None:
            return None
        if not run.windowed:
            self.finish(run, output)
        if self.stage.blend is not False and run.encoded is not None:
            shape = run.rows.batch
            pictures = None if shape is None else (len(run.encoded.grids), shape[1])
            Blend(run.encoded, pictures, in_place=run.windowed).output(output)
        return output

    def finish(self, run: TowerRun, output: Any) -> None:
        """Spread what the tower returns of a window, where it is short still."""
        rows = _rows_of(run)
        if rows is None:
            return
        self._check(len(self.blocks), self.tower, rows)
        if self.mergers:
            output.last_hidden_state = rows.expand(output.last_hidden_state, "last")
        calls.change_states(output, lambda number, states: rows.expand(states, ("hidden", number)))
        rows.end_window()


def _rows_of(run: TowerRun | None) -> EncodedRows | None:
    """The encoded rows of the window under way, None where all are encoded."""
    return run.rows if run is not None and isinstance(run.rows, EncodedRows) else None


def _order_of_rows(order: Tensor, group: int) -> Tensor:
    """Order of groups of `group` rows -> order of the rows."""
    return (order[:, None] * group + torch.arange(group, device=order.device)).flatten()


def _blocks(tower: Any) -> list[Any]:
    found = next(lists_of_blocks(tower), None)
    if found is None:
        raise no_grid(tower, "it has no list of blocks")
    return found
