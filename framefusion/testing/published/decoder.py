"""Recorded functions that act inside the language model."""

from __future__ import annotations

import torch

from framefusion.core.ops.attention import text_raters
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.selection import highest
from framefusion.core.plan import Plan
from framefusion.methods.dart import DART
from framefusion.methods.fastv import FastV
from framefusion.methods.holitom import HoliTom
from framefusion.methods.pyramiddrop import PyramidDrop
from framefusion.methods.sparsevlm import SHARE, SparseVLM, rated
from framefusion.testing.findings import Findings
from framefusion.testing.published.cases import Case, mean_over_heads


def fastv(case: Case, found: Findings) -> None:
    attention = mean_over_heads(case["attention"])
    plan = FastV(**case.given("keep", "layer")).decide(case.signals(case.picture(), attention=attention[None]))
    found.same_set("keep", plan.keep, case["keep"])


def pyramiddrop(case: Case, found: Findings) -> None:
    attention = mean_over_heads(case["attention"])
    method = PyramidDrop(**case.given("keep"))
    counts = method.steps().counts(len(attention), case.options["stages"])
    found.equal("counts", counts, case["counts"].tolist())
    plan = method.decide(case.signals(case.picture(), attention=attention[None]), counts[0])
    found.same_set("keep", plan.keep, case["keep"])


def sparsevlm(case: Case, found: Findings) -> None:
    raters = text_raters(case["hidden"], case["text"])
    found.equal("raters", raters.nonzero().flatten().tolist(), case["raters"].tolist())
    signals = case.signals(
        case.picture(), text=case["text"], attention=case["text_attention"], text_attention=case["text_attention"][None]
    )
    count = case.options["count"]
    plain = SparseVLM().decide(signals, count, raters)
    found.same_set("keep", plain.keep, case["keep"])
    _recycled(case, found, rated(signals, raters), plain)
    ours = SparseVLM(recycle=True).decide(signals, count, raters)
    found.choice("recycle", ours.kept != count + len(case["recycle_means"]))


def _recycled(case: Case, found: Findings, score: torch.Tensor, plain: Plan) -> None:
    """The recorded pool and its clusters, by the library's functions at the published sizes."""
    dropped = torch.ones_like(score, dtype=torch.bool).index_fill(0, plain.keep, False).nonzero().flatten()
    pool = dropped[highest(score[dropped], int(SHARE * len(dropped)) + 1)].sort().values
    found.same_set("recycle_pool", pool, case["recycle_pool"])
    clusters, states = len(case["recycle_means"]), case["hidden"][pool]
    centres, label = density_clusters(states, clusters, clusters)
    means = Plan.merge(centres[label], torch.ones(len(pool))).apply(states)
    found.close_as_sets("recycle_means", means, case["recycle_means"])


def dart(case: Case, found: Findings) -> None:
    signals = case.signals(case.picture(), text=case["text"], keys=case["keys"], text_keys=case["text_keys"])
    plan = DART(**case.given("keep", "visual_pivots", "text_pivots")).decide(signals)
    found.same_set("keep", plan.keep, case["keep"])


def holitom(case: Case, found: Findings) -> None:
    attention = mean_over_heads(case["attention"])
    method = HoliTom(**case.given("keep"))
    signals = case.signals(case.clip(), attention=attention[None])
    plan = method.decide(signals, len(case["keep"]))
    found.equal("count", method.steps().counts(len(attention), 1), [len(case["keep"])])
    found.same_set("keep", plan.keep, case["keep"])
    found.equal("head", plan.keep[plan.owner].tolist(), case["head"].tolist())
    strict = HoliTom(**case.given("keep"), strict=True).decide(signals, len(case["keep"]))
    found.close("values_halving", strict.apply(case["hidden"]), case["values_halving"])
    found.choice("strict=False", not torch.allclose(plan.apply(case["hidden"]), case["values_halving"], atol=1e-3))
