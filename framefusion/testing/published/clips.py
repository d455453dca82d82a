"""Recorded functions that look at a clip before the language model."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from framefusion.core.layout import frame_numbers
from framefusion.core.method import Setting, Signals, before
from framefusion.core.ops.budget import Variant
from framefusion.core.ops.scenes import cut_segments
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.weighted import group_sums
from framefusion.core.plan import Plan
from framefusion.methods.dycoke import DyCoke
from framefusion.methods.evs import EVS
from framefusion.methods.fastvid import FastVID
from framefusion.methods.prunevid import PruneVid
from framefusion.methods.scissor import Scissor
from framefusion.methods.sttm import STTM
from framefusion.methods.vidcom2 import VidCom2
from framefusion.testing.findings import Findings, nearest_rows
from framefusion.testing.published.cases import Case

VARIANTS: dict[Variant, str] = {"llava_onevision": "onevision", "llava_video": "video"}
"""FastVID's published variants, and how the recordings name them."""


def vidcom2(case: Case, found: Findings) -> None:
    method, frames = VidCom2(**case.given("keep")), len(case["per_frame"])
    signals = case.signals(case.clip(frames))
    chosen, likeness = method.choose(signals)
    found.close("likeness", likeness, case["likeness"])
    per_frame = torch.bincount(signals.geometry.frame[chosen], minlength=frames)
    found.equal("per_frame", per_frame.tolist(), case["per_frame"].tolist())
    found.same_set("keep", chosen.nonzero().flatten(), case["keep"])
    kept = method.decide(signals).keep
    inside = torch.isin(kept, case["keep"])
    found.true("the exact count both drops and adds tokens", bool(inside.all()) or len(case["keep"]) == inside.sum())
    found.choice("count", len(kept) != len(case["keep"]))


def dycoke(case: Case, found: Findings) -> None:
    signals = case.signals(case.clip())
    kept, frame = DyCoke(**case.given("keep")).decide(signals).keep, signals.geometry.frame
    compared = torch.isin(frame, case["frames_compared"])
    found.same_set("keep", kept[compared[kept]], case["keep"][compared[case["keep"]]])
    found.choice("frames", not bool(compared.all()))


def evs(case: Case, found: Findings) -> None:
    plan = EVS(**case.given("keep")).decide(case.signals(case.clip()))
    found.same_set("keep", plan.keep, case["keep"])


def fastvid(case: Case, found: Findings) -> None:
    options = case.given("keep", "segments", "tau", "context", "every", "beta")
    signals = case.towered(case.clip(int(case["segments"].sum())))
    means = unit_rows(group_sums(case["hidden"], frame_numbers(signals.geometry)))
    exact = FastVID(**options)
    segments = cut_segments(means, exact.tau, exact.segments)
    found.equal("segments", torch.bincount(segments).tolist(), case["segments"].tolist())
    values = exact.decide(signals).apply(case["hidden"])
    for variant, name in VARIANTS.items():
        plan = FastVID(**options, variant=variant).decide(signals)
        found.same_set(f"keep_{name}", plan.keep, case[f"keep_{name}"])
        if torch.equal(plan.keep, case[f"keep_{name}"].sort().values):
            recorded = case[f"values_{name}"][case[f"keep_{name}"].argsort()]
            found.close(f"values_{name}", plan.apply(case["hidden"]), recorded)
            shows = values.shape != recorded.shape or bool(((values - recorded).abs() > 1e-3).any())
            found.choice("variant='exact'", shows)


def prunevid(case: Case, found: Findings) -> None:
    segments = case["segments"].tolist()
    signals = case.signals(case.clip(sum(segments)))
    (stage,) = PruneVid(**case.given("keep", "tau", "alpha")).stages()
    plan, state = stage.step(stage.start(Setting(28, signals.geometry)), signals)
    assert plan is not None and state.group is not None
    values = plan.apply(case["hidden"])
    found.close_as_sets("values", values, case["values"])
    _sizes(found, state.group, case)
    if values.shape == case["values"].shape:
        place = nearest_rows(case["values"], values)
        attention = torch.empty_like(case["text_attention"])
        attention[..., place] = case["text_attention"]
        left = signals.part(plan.keep)
        asked, _ = stage.step(state, _asking(left, attention))
        _question(found, state.group, place[case["question_keep"]], asked)


def _asking(signals: Signals, attention: Tensor) -> Signals:
    return replace(signals, point=before(11), has_attention=True, text_attention=lambda: attention)


def _sizes(found: Findings, group: Tensor, case: Case) -> None:
    """Tokens of each segment that stand still and that move, after clustering."""
    lengths = case["segments"].tolist()
    segment = torch.repeat_interleave(torch.arange(len(lengths)), case["segments"])
    frames, moving = len(segment), group < len(segment)
    dynamic = torch.bincount(segment[group[moving]], minlength=len(lengths))
    static = torch.bincount(group[~moving] - frames, minlength=len(lengths))
    found.equal("dynamic_sizes", dynamic.tolist(), case["dynamic_sizes"].tolist())
    found.equal("static_sizes", static.tolist(), case["static_sizes"].tolist())


def _question(found: Findings, group: Tensor, recorded: Tensor, asked: Plan | None) -> None:
    """The question keeps what was recorded and, besides, one token of each group of which nothing was."""
    kept = torch.arange(len(group)) if asked is None else asked.keep
    more = kept[~torch.isin(kept, recorded)]
    emptied = group[more]
    found.same_set("question_keep", kept[torch.isin(kept, recorded)], recorded)
    alone = bool((~torch.isin(emptied, group[recorded])).all()) and emptied.unique().numel() == emptied.numel()
    found.true("the question keeps more than one token of groups that lost all", alone)
    found.choice("groups", bool(more.numel()))


def scissor(case: Case, found: Findings) -> None:
    plan = Scissor(**case.given("tau")).decide(case.signals(case.clip()))
    found.close_as_sets("values", plan.apply(case["hidden"]), case["values"])


def sttm(case: Case, found: Findings) -> None:
    options = case.given("threshold", "temporal_threshold", "root")
    signals = case.signals(case.clip())
    spatial = STTM(**options | {"temporal_threshold": 1.0}).decide(signals)
    strict = STTM(**options, strict=True).decide(signals)
    for plan, prefix in ((spatial, "spatial_"), (strict, "")):
        keep = case[f"{prefix}keep"]
        found.same_set(f"{prefix}keep", plan.keep, keep)
        if torch.equal(plan.keep, keep.sort().values):
            slots = plan.owner[keep]
            patches = plan.sizes(torch.ones(len(signals)))[slots].long()
            found.equal(f"{prefix}patches", patches.tolist(), case[f"{prefix}patches"].tolist())
            found.close(f"{prefix}values", plan.apply(case["hidden"])[slots], case[f"{prefix}values"])
    plain = STTM(**options).decide(signals)
    values = [plan.apply(case["hidden"]) for plan in (plain, strict)]
    same = torch.equal(plain.keep, strict.keep) and torch.allclose(values[0], values[1])
    found.choice("strict=False", not same)
