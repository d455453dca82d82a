"""Where each visual token comes from, found by looking: change one place of one picture and see which tokens move.

A family's own processor makes a real prompt, its tiny model encodes it, and what reaches the decoder is compared with
and without a change of a few grey levels. The tokens that move are those of that place. What the layout rule of the
family says about them is then right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import LayoutError
from framefusion.core.registry import family_of_config
from framefusion.engine.model.parts import find_parts
from framefusion.testing.conformance.prompting import written
from framefusion.testing.conformance.readers import reader_of, reading_model
from framefusion.testing.conformance.reading import OPTIONS
from framefusion.testing.conformance.visuals import STEP

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry, Layout
    from framefusion.testing.conformance.visuals import Visual

MOST, APART, OVERLAP, SHARE, FOCUS = 0.6, 0.08, 0.05, 0.05, 0.5
PLACES = ((0.3, 0.3), (0.3, 0.7), (0.7, 0.3))


class Disagreement(Exception):
    """The layout says something else than the tokens show."""


class NotRun(Exception):
    """The family's own processor or model does not take the input."""


@dataclass(frozen=True)
class Probe:
    """A change and what it moved. moved: (N,) energy that reached each visual token of the layout."""

    visual: int
    frame: int
    place: tuple[float, float]
    moved: Tensor


class Oracle:
    """One family: its reader and its tiny model."""

    def __init__(self, model_type: str, class_name: str) -> None:
        try:
            self.reader = reader_of(model_type)
            self.model = reading_model(model_type, class_name)
        except Exception as error:
            raise NotRun(_said(error)) from error
        self.name = model_type
        self.step = OPTIONS.get(model_type, {}).get("step", STEP)
        self.config = find_parts(self.model).config
        self.family = family_of_config(self.config)

    @property
    def takes_video(self) -> bool:
        return getattr(self.reader, "video_processor", None) is not None

    def layout(self, inputs: Mapping[str, Any]) -> Layout:
        return self.family.layout(self.config, inputs, inputs["input_ids"])

    def inputs(self, visuals: Sequence[Visual], **options: Any) -> dict[str, Any]:
        """What the processor makes of a prompt that shows `visuals` and asks something."""
        most = OPTIONS.get(self.name, {}).get("pictures")
        if most is not None and len(visuals) > most:
            raise NotRun("its processor writes a prompt for each picture")
        try:
            return written(self.name, self.reader, self.model, visuals, **options)
        except Exception as error:
            raise NotRun(_said(error)) from error

    @torch.no_grad()
    def embedded(self, inputs: Mapping[str, Any]) -> Tensor:
        """(L, D) what the decoder is given."""
        seen: list[Tensor] = []
        parts = find_parts(self.model)

        def stop(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            given = kwargs.get("inputs_embeds")
            if module is not parts.decoder:
                given = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            if given is not None:
                seen.append(given)
                raise _Seen

        # Some decoders look up their words, or encode, by themselves; some are given features at a layer.
        inside = OPTIONS.get(self.name, {}).get("inside", False)
        places = (parts.blocks[0].layer,) if inside else (parts.decoder, parts.blocks[0].layer)
        hooks = [place.register_forward_pre_hook(stop, with_kwargs=True) for place in places]
        try:
            self.model(**inputs)
        except _Seen:
            pass
        except Exception as error:
            raise NotRun(_said(error)) from error
        finally:
            for hook in hooks:
                hook.remove()
        return seen[0][0].double()

    def probes(self, visuals: Sequence[Visual], columns: Tensor, whole: bool, **options: Any) -> Iterator[Probe]:
        """A change in the first and the last frame of every visual; `whole`: in every frame, and at all `PLACES`.

        columns: (N,) of the prompt, where its visual tokens are.
        """
        inputs = self.inputs(visuals, **options)
        before = self.embedded(inputs)
        for number, visual in enumerate(visuals):
            last = len(visual.pixels) - 1
            for frame in range(last + 1) if whole else sorted({0, last}):
                for place in PLACES if whole and frame == 0 else PLACES[:1]:
                    other = [*visuals[:number], visual.changed(frame, place, self.step), *visuals[number + 1 :]]
                    changed = self.inputs(other, **options)
                    if changed["input_ids"].shape != inputs["input_ids"].shape:
                        raise NotRun("the number of tokens depends on what a picture shows")
                    moved = (self.embedded(changed) - before).square().sum(-1)
                    if float(moved.sum()) > 0.0:  # else this frame was not sampled, or this place cut off
                        yield Probe(number, frame, place, moved[columns])

    def judge(self, visuals: Sequence[Visual], whole: bool = True, **options: Any) -> Geometry:
        """The layout of the prompt, once every probe agrees. Raises Disagreement or NotRun."""
        inputs = self.inputs(visuals, **options)
        try:
            layout = self.layout(inputs)
        except LayoutError:
            self.embedded(inputs)  # where the model does not take them either, that is what is said
            raise
        ((geometry, placement),) = layout.rows
        probes = list(self.probes(visuals, placement.columns, whole, **options))
        _agree(visuals, geometry, probes, whole)
        return geometry


class Unread(NotRun):
    """The family's own processor or model passes over a picture, or cuts off what was changed of it."""


class Blurred(NotRun):
    """The model answers a change of one place with other tokens everywhere, as codes of random weights do."""


class _Seen(Exception):
    """The decoder was reached."""


def _said(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:160]


def _agree(visuals: Sequence[Visual], geometry: Geometry, probes: Sequence[Probe], whole: bool) -> None:
    owners: dict[int, set[int]] = {}
    for probe in probes:
        for clip_number in _touched(probe, geometry.clip):
            owners.setdefault(clip_number, set()).add(probe.visual)
    shared = [sorted(visuals_of) for visuals_of in owners.values() if len(visuals_of) > 1]
    if shared:
        raise Disagreement(f"several visuals are told as one: {shared[0]}")
    for number, visual in enumerate(visuals):
        own = [clip_number for clip_number, visuals_of in owners.items() if number in visuals_of]
        mine = [probe for probe in probes if probe.visual == number]
        if not mine:
            raise Unread(f"nothing of visual {number} reaches the decoder")
        if not own:
            raise Disagreement(f"nothing shows visual {number}")
        if visual.kind == "image":
            most = int(geometry.frame[torch.isin(geometry.clip, torch.tensor(own))].max())
            if most:
                raise Disagreement(f"a picture is told as {most + 1} frames")
        elif len(own) > 1:
            raise Disagreement(f"visual {number}, a video, is told as {len(own)}")
        else:
            inside = geometry.clip == own[0]
            frames = [(probe.frame, _home(probe, torch.where(inside, geometry.frame, -1))) for probe in mine]
            _apart(mine, frames)
            _in_order(geometry.frame[inside], frames, whole)
        if whole and len(own) == 1:
            _in_place(geometry, [probe for probe in mine if probe.frame == mine[0].frame][: len(PLACES)])


def _touched(probe: Probe, label: Tensor) -> list[int]:
    """The labels with a share of what moved."""
    labels, index = torch.unique(label, return_inverse=True)
    mass = torch.zeros(len(labels), dtype=probe.moved.dtype).index_add(0, index, probe.moved)
    return labels[mass > SHARE * mass.sum()].tolist()


def _apart(probes: Sequence[Probe], frames: Sequence[tuple[int, int]]) -> None:
    """Frames that move different tokens are different frames."""
    here = {p.frame: p.moved for p in probes if p.place == PLACES[0]}
    for (one, first), (other, second) in combinations(sorted(set(frames)), 2):
        alike = torch.nn.functional.cosine_similarity(here[one], here[other], dim=0)
        if first == second and float(alike) < OVERLAP:
            raise Disagreement(f"frames {one} and {other} of a video are told as one and move other tokens")


def _home(probe: Probe, label: Tensor) -> int:
    """The frame that most of what moved belongs to."""
    labels, index = torch.unique(label, return_inverse=True)
    mass = torch.zeros(len(labels), dtype=probe.moved.dtype).index_add(0, index, probe.moved)
    if float(mass.max()) < MOST * float(mass.sum()):
        told = ", ".join(f"{n}: {s:.0%}" for n, s in zip(labels.tolist(), (mass / mass.sum()).tolist(), strict=True))
        raise Disagreement(f"frame {probe.frame} moves several frames: {told}")
    return int(labels[mass.argmax()])


def _in_order(told: Tensor, seen: Sequence[tuple[int, int]], whole: bool) -> None:
    """Frames follow each other, and every frame of the layout is one of the input."""
    numbers = [frame for _, frame in sorted(set(seen))]
    if numbers != sorted(numbers) or numbers[0] != 0:
        raise Disagreement(f"the frames of a clip are told as {numbers}")
    expected = set(told.tolist()) if whole else {0, int(told.max())}
    if set(numbers) != expected:
        raise Disagreement(f"a clip is told as {int(told.max()) + 1} frames, seen are {sorted(set(numbers))}")


def _in_place(geometry: Geometry, probes: Sequence[Probe]) -> None:
    """Places beside each other share their rows, places below each other their columns."""
    if [probe.place for probe in probes] != list(PLACES) or int(geometry.row[probes[0].moved.argmax()]) < 0:
        return
    shares = torch.stack([probe.moved / probe.moved.sum() for probe in probes])
    if bool((shares.sort(descending=True).values[:, : -(-shares.shape[1] // 4)].sum(1) < FOCUS).any()):
        raise Blurred("a small change moves the whole picture: no place can be told")
    alone = (shares - shares.amin(0)).clamp(min=0.0)  # without what attention carries elsewhere
    first, beside, below = ([_centre(share, side) for side in (geometry.row, geometry.column)] for share in alone)
    inside = geometry.clip == geometry.clip[probes[0].moved.argmax()]
    rows, columns = (int(side[inside].max()) + 1 for side in (geometry.row, geometry.column))
    if abs(first[0] - beside[0]) > _slack(rows) or abs(first[1] - below[1]) > _slack(columns):
        raise Disagreement(f"places of one row or column are told apart: {first}, {beside} and {below}")
    flat = (rows > 1 and below[0] - first[0] < APART * rows, columns > 1 and beside[1] - first[1] < APART * columns)
    if any(flat):
        raise Disagreement(f"places apart are told as one: {first}, {beside} and {below}")


def _slack(cells: int) -> float:
    return 0.75 + 0.13 * cells


def _centre(moved: Tensor, cell: Tensor) -> float:
    weight = moved * (cell >= 0)
    return round(float((weight * cell).sum() / weight.sum()), 2)
