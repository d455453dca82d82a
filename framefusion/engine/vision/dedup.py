"""Let a stage decide from pixels what the vision tower encodes, and run its blocks on that alone.

The tower's own forward runs untouched: what enters its first block is cut to the encoded rows, what its blocks are
handed along with it too, and what leaves the last block, or a merger, is spread over all rows again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.vision.blend import Blend
from framefusion.engine.vision.pixels import UnitGrid, Units, clips_of, grid_of_picture, no_grid
from framefusion.engine.vision.rows import EncodedRows
from framefusion.engine.vision.run import TowerRun, first_input
from framefusion.engine.vision.signals import Pictures
from framefusion.models.pixel_range import PixelRange

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.layout import Layout
    from framefusion.stage import PixelStage

BLOCKS = ("blocks", "layers", "layer")
MERGERS = ("merger", "deepstack_merger_list")
BORDERS, LONGEST = "cu_seqlens", "max_seqlen"


@dataclass(frozen=True, eq=False)
class Encoded:
    """What was decided for the pictures of one run.

    shows: (U,) of every picture, the picture whose encoding each of its units shows. following, weight: (U,) of every
    picture, the picture that next encodes it, and its share in what the unit shows. grids: of every picture.
    """

    shows: list[Tensor]
    following: list[Tensor]
    weight: list[Tensor]
    grids: list[UnitGrid]

    @property
    def units(self) -> tuple[int, int]:
        """How many units are encoded, and how many there are."""
        own = sum(int((shows == number).sum()) for number, shows in enumerate(self.shows))
        return own, sum(shows.numel() for shows in self.shows)

    @property
    def partial(self) -> bool:
        """Whether some unit is not encoded."""
        own, every = self.units
        return own < every

    def patches(self) -> tuple[int, int]:
        """How many patches are encoded, and how many there are."""
        pairs = [
            (int((shows == number).sum()) * grid.merge**2, grid.patches)
            for number, (shows, grid) in enumerate(zip(self.shows, self.grids, strict=True))
        ]
        return sum(own for own, _ in pairs), sum(every for _, every in pairs)


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
        self._parameters = list(inspect.signature(type(tower).forward).parameters)[1:]

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
        given = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        pixels = first_input(args, kwargs)
        assert pixels is not None
        pictures = Pictures(context.tower_runs(), layout)
        places = pictures.of_kind(run)
        clips = list(clips_of(places, layout))
        grids = self._grids(run, given, pixels, [group.numel() for _, group in places])
        if len(grids) != len(places):
            if all(len(clip) == 1 for clip in clips):
                return  # stills cut into tiles have nothing in front of them to repeat
            raise no_grid(module, f"it encodes {len(grids)} pictures at once where the prompt shows {len(places)}")
        run.encoded = self._decide(pixels, clips, grids, self.known(pictures.is_video(run)))
        if run.grouped and run.encoded.partial:
            run.rows = self._rows(run, pixels)

    def _before_embedding(self, module: nn.Module, args: tuple) -> tuple | None:
        """Patches that are not encoded are not embedded either."""
        run = context.tower()
        if run is None or run.rows is None or args[0].shape[0] != run.rows.count:
            return None
        return (run.rows.cut_patches(args[0]), *args[1:])

    def _after_embedding(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        run = context.tower()
        if run is None or run.rows is None or output.shape[0] != run.rows.keep.numel():
            return None
        return run.rows.expand_patches(output)

    def _decide(self, pixels: Tensor, clips: list[list[int]], grids: list[UnitGrid], known: PixelRange) -> Encoded:
        starts = [0]
        for grid in grids:
            starts.append(starts[-1] + grid.patches)
        shows = [torch.full((grid.units,), number) for number, grid in enumerate(grids)]
        following, weight = list(shows), [torch.zeros(grid.units) for grid in grids]
        for clip in clips:
            if len({grids[number] for number in clip}) > 1:
                raise no_grid(self.tower, "frames of one clip have unlike sizes")
            if len(clip) > 1:
                grid = grids[clip[0]]
                with torch.no_grad():
                    made = self.stage.decide(Units(pixels, clip, starts, grid, known), (grid.rows, grid.columns))
                numbers = torch.tensor(clip)
                for frame, number in enumerate(clip):
                    shows[number] = numbers[made.shows[frame].cpu()]
                    following[number] = numbers[made.following[frame].cpu()]
                    weight[number] = made.weight[frame].cpu()
        return Encoded(shows, following, weight, grids)

    def _grids(self, run: TowerRun, given: dict[str, Any], pixels: Tensor, tokens: list[int]) -> list[UnitGrid]:
        """The units of every picture the tower encodes."""
        patch = getattr(self.tower.config, "patch_size", None)
        patch = patch[0] if isinstance(patch, list | tuple) and len(set(patch)) == 1 else patch
        if run.grouped:
            sizes = given["grid_thw"].tolist()
            merges = given.get("merge_sizes")
            side = getattr(self.tower, "spatial_merge_size", None) or getattr(
                self.tower.config, "spatial_merge_size", 1
            )
            sides = [side] * len(sizes) if merges is None else merges.tolist()
            return [
                UnitGrid(height // side, width // side, side, patch, grouped=True)
                for (frames, height, width), side in zip(sizes, sides, strict=True)
                for _ in range(frames)
            ]
        if pixels.ndim != 4 or not isinstance(patch, int):
            raise no_grid(self.tower, "its patches lie on no grid that is known")
        most = tokens[0] if len(set(tokens)) == 1 else 0
        return [grid_of_picture(pixels, patch, most)] * pixels.shape[0]

    def _rows(self, run: TowerRun, hidden: Tensor) -> EncodedRows:
        """hidden: (S, D) of patches, or (B, P, D) as it enters the first block."""
        shape = None if run.grouped else (hidden.shape[0], hidden.shape[1])
        shown, starts = [], [0]
        encoded: Encoded = run.encoded
        for grid in encoded.grids:
            starts.append(starts[-1] + (grid.patches if shape is None else shape[1]))
        for shows, grid in zip(encoded.shows, encoded.grids, strict=True):
            unit = grid.unit_of_patch()
            front = 0 if shape is None else shape[1] - unit.numel()
            if front < 0:
                raise no_grid(self.tower, f"a picture of {unit.numel()} patches has {shape} rows")
            first = torch.tensor(starts)[shows]
            row = torch.arange(front + unit.numel())
            # What stands in front of the patches is encoded where any patch is.
            shown.append(torch.cat([first.max().expand(front), first[unit]]) + row)
        rows = torch.cat(shown).to(hidden.device)
        order = None if run.order is None else _order_of_rows(run.order.to(rows), encoded.grids[0].merge ** 2)
        return EncodedRows(rows, order, shape, self.stage.reuse)

    def _before_block(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
            run = context.tower()
            if run is None or run.encoded is None:
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            if number == 0 and not run.grouped and run.encoded.partial:
                run.rows = self._rows(run, hidden)
            rows = run.rows
            if rows is None:
                return None
            if number == 0:
                hidden = rows.cut_hidden(hidden)
            rest = {name: rows.cut(value) for name, value in kwargs.items() if name not in ("hidden_states", BORDERS)}
            if BORDERS in kwargs:
                rest[BORDERS] = kwargs[BORDERS]
            self._borders(rows, rest)
            if args:
                return (hidden, *args[1:]), rest
            return (), {"hidden_states": hidden, **rest}

        return hook

    def _borders(self, rows: EncodedRows, rest: dict[str, Any]) -> None:
        """Take the borders of sequences out of what a block is given: its attention sees one."""
        if rows.pictures is not None:
            count, size = rows.pictures
            rows.borders = tuple(range(0, count * size + 1, size))
            return
        borders = rest.get(BORDERS)
        if borders is None:
            raise no_grid(self.tower, f"its blocks are not told where pictures end by `{BORDERS}`")
        rows.borders = tuple(borders.tolist())
        rest[BORDERS] = borders.new_tensor([0, rows.keep.numel()])
        if rest.get(LONGEST) is not None:
            rest[LONGEST] = rows.keep.numel()

    def _expand(self, module: nn.Module, args: tuple, output: Any) -> Any:
        run = context.tower()
        if run is None or run.rows is None:
            return None
        if isinstance(output, tuple):
            return (run.rows.expand(output[0]), *output[1:])
        return run.rows.expand(output)

    def _expand_groups(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        run = context.tower()
        return None if run is None or run.rows is None else run.rows.expand_groups(output)

    def _after_tower(self, module: nn.Module, args: tuple, output: Any) -> Any:
        run = context.tower()
        if run is None or run.rows is None:
            return None
        rows: EncodedRows = run.rows
        if self.mergers:
            output.last_hidden_state = rows.expand(output.last_hidden_state)
        if getattr(output, "hidden_states", None) is not None:
            output.hidden_states = tuple(
                states if states is None else rows.expand(states) for states in output.hidden_states
            )
        if self.stage.blend:
            Blend(run.encoded, rows.pictures).output(output)
        return output


def _order_of_rows(order: Tensor, group: int) -> Tensor:
    """Order of groups of `group` rows -> order of the rows."""
    return (order[:, None] * group + torch.arange(group, device=order.device)).flatten()


def _blocks(tower: Any) -> list[Any]:
    for module in tower.modules():
        for name in BLOCKS:
            found = getattr(module, name, None)
            if isinstance(found, torch.nn.ModuleList) and len(found):
                return list(found)
    raise no_grid(tower, "it has no list of blocks")
