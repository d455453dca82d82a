"""The pages of the reference: every public name, in groups, for mkdocstrings to fill from the docstrings."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath

import framefusion
from framefusion.core.registry import METHODS

# Public names that a method is written with; what is neither these nor a method is for those who use methods.
WRITING = (
    "Method",
    "ScoredMethod",
    "SelectingMethod",
    "BudgetedMethod",
    "MethodFacts",
    "Signals",
    "Plan",
    "Geometry",
    "Layout",
)
# What stands first on the first page, in this order.
FIRST: tuple[str, ...] = ("reduce", "Reduction", "Report", "list_methods", "load_checkpoint", "Checkpoint")
FIRST += ("stream", "VideoStream", "StreamAnswer", "StreamStatus")
STAGES: tuple[str, ...] = ("core.method.Stage", "core.point.Point", "core.stage.DecoderStage")
STAGES += ("core.stage.ProjectorStage", "core.stage.VisionStage")


@cache
def pages() -> dict[str, str]:
    """Place in the site -> Markdown."""
    methods = sorted({*_method_classes().values(), "Chain"}, key=str.lower)
    rest = set(framefusion.__all__) - {*methods, *WRITING, *FIRST}
    return {
        "reference/index.md": _page(
            "Reference",
            "`import framefusion as ff`; every name below stands in `ff`. "
            "[Methods](methods.md), [what methods are written with](writing.md), [checks for them](testing.md), "
            "[videos](video.md) and [errors](errors.md) have pages of their own.",
            *(f"framefusion.{name}" for name in (*FIRST, *sorted(rest, key=str.lower))),
        ),
        "reference/methods.md": _page(
            "Methods",
            "Every class is a frozen dataclass: its arguments are the options, checked when it is made. "
            "[What each does](../methods.md), [what options take](../options.md).",
            *(f"framefusion.{name}" for name in methods),
            members="[]",
        ),
        "reference/writing.md": _page(
            "For authors of methods",
            "The classes behind [Write a method](../write-a-method.md).",
            *(f"framefusion.{name}" for name in WRITING),
            *(f"framefusion.{name}" for name in STAGES),
        ),
        "reference/testing.md": _page(
            "Checks for methods",
            "What holds for every method of the library, to be run on one of your own. "
            "None of these modules is imported unless you do.",
            "framefusion.testing.methods",
            "framefusion.testing.rows",
            "framefusion.testing.signals",
            nested=True,
        ),
        "reference/video.md": _page(
            "Videos", "What reads and writes clips.", "framefusion.inference.video", nested=True
        ),
        "reference/errors.md": _page(
            "Errors",
            "What is refused, and why: [one table](../refusals.md).",
            "framefusion.core.errors",
            nested=True,
        ),
    }


def method_link(page: str) -> str:
    """The line that leads from the page of a method to its class, empty for other pages."""
    path = PurePosixPath(page)
    name = _method_classes().get(path.stem, "Chain" if path.stem == "chain" else None)
    if str(path.parent) != "methods" or name is None:
        return ""
    return f"\nClass: [`framefusion.{name}`](../reference/methods.md#framefusion.{name}).\n"


def _method_classes() -> dict[str, str]:
    return {name: path.partition(":")[2] for name, path in METHODS.items()}


def _page(title: str, text: str, *names: str, members: str = "", nested: bool = False) -> str:
    options = [f"        members: {members}"] if members else []
    # A module is the page itself: only what is in it has a heading.
    options += ["        show_root_heading: false", "        show_root_toc_entry: false"] if nested else []
    below = ["    options:", *options] if options else []
    return "\n".join([f"# {title}", "", text, "", *("\n".join([f"::: {name}", *below, ""]) for name in names)])
