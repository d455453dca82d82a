"""Recorded functions that look at one picture."""

from __future__ import annotations

import torch

from framefusion.core.layout import MARKER, PATCH, Geometry, frame_numbers
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.selection import farthest_points
from framefusion.core.ops.similarity import unit_rows
from framefusion.methods.adaptprune import AdaptPrune
from framefusion.methods.cdpruner import CDPruner
from framefusion.methods.divprune import DivPrune
from framefusion.methods.fastervlm import FasterVLM
from framefusion.methods.holov import HoloV, runs
from framefusion.methods.tome import ToMe
from framefusion.methods.visionzip import VisionZip
from framefusion.methods.vispruner import VisPruner
from framefusion.testing.findings import Findings
from framefusion.testing.published.cases import Case, mean_over_heads


def visionzip(case: Case, found: Findings) -> None:
    signals = case.towered(case.picture())
    options = case.given("keep", "contextual", "strict")
    plan = VisionZip(**options).decide(signals)
    recorded = torch.cat([case["dominant"], case["contextual"]])
    found.same_set("keep", plan.keep, recorded)
    if torch.equal(plan.keep, recorded.sort().values):
        found.close("values", plan.apply(case["features"])[plan.owner[recorded]], case["values"])
    plain = VisionZip(**options | {"strict": False}).decide(signals)
    found.choice("strict=False", plain.kept != len(recorded))


def fastervlm(case: Case, found: Findings) -> None:
    plan = FasterVLM(**case.given("keep")).decide(case.towered(case.picture()))
    found.same_set("keep", plan.keep, case["keep"])


def vispruner(case: Case, found: Findings) -> None:
    plan = VisPruner(**case.given("keep", "important")).decide(case.towered(case.picture()))
    found.same_set("keep", plan.keep, case["keep"])


def divprune(case: Case, found: Findings) -> None:
    plan = DivPrune(**case.given("keep")).decide(case.signals(case.picture()))
    found.same_set("keep", plan.keep, case["keep"])
    found.equal("picks", farthest_points(unit_rows(case["hidden"]), plan.kept).tolist(), case["picks"].tolist())


def cdpruner(case: Case, found: Findings) -> None:
    signals = case.signals(case.picture(), text=case["text"])
    plan = CDPruner(**case.given("keep", "theta")).decide(signals)
    found.same_set("keep", plan.keep, case["keep"])
    plain = CDPruner(**case.given("keep")).decide(signals)
    found.choice("theta=0.5", case.options["theta"] is None and not torch.equal(plain.keep, plan.keep))


def holov(case: Case, found: Findings) -> None:
    geometry = case.picture()
    signals, options = case.towered(geometry), case.given("keep", "crops")
    plan = HoloV(**options).decide(signals)
    crop = runs(frame_numbers(geometry), options["crops"])
    found.equal("quota", torch.bincount(crop[plan.keep], minlength=options["crops"]).tolist(), case["quota"].tolist())
    found.same_set("keep", plan.keep, case["keep"])
    over_clip = HoloV(**options, scale="clip").decide(signals)
    found.choice("scale='clip'", not torch.equal(over_clip.keep, plan.keep))


def tome(case: Case, found: Findings) -> None:
    """One block of the tower: so many blocks and patches that this one merges what was recorded."""
    geometry = Geometry.grid(1, 1, len(case["hidden"]))
    if case.options["class_token"]:
        geometry.kind[0] = MARKER
    patches = int((geometry.kind == PATCH).sum())
    signals = case.signals(geometry, keys=case["keys"], size=case["size"])
    plan = ToMe(keep=patches - case.options["merge"]).decide(signals, 0, 1, patches)
    both = torch.cat([plan.apply(case["hidden"]), plan.sizes(case["size"])[:, None]], 1)
    found.close_as_sets("values and sizes", both, torch.cat([case["values"], case["sizes"][:, None]], 1))


def adaptprune(case: Case, found: Findings) -> None:
    attention = mean_over_heads(case["attention"])
    signals = case.signals(case.picture(), attention=attention[None], keys=case["keys"])
    method = AdaptPrune(**case.given("keep"))
    found.same_set("keep", method.decide(signals).keep, case["keep"])
    count = kept_count(method.keep, len(signals), int)
    found.equal("picks", method.select(signals, count).tolist(), case["picks"].tolist())
