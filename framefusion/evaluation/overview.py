"""Many methods at several equivalent costs on the same questions, each against the same controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import FrameFusionError, OptionError
from framefusion.core.method import Method, checked_methods
from framefusion.core.options import Share, checked
from framefusion.core.registry import methods as registered
from framefusion.evaluation import comparison, fingerprint
from framefusion.evaluation.cells import name_of
from framefusion.evaluation.context import ComparisonContext, Watcher
from framefusion.evaluation.decision_time import decision_ms
from framefusion.evaluation.equal_cost import cost_of
from framefusion.evaluation.records import Records
from framefusion.evaluation.result import Contender, Evaluation, Role
from framefusion.evaluation.runner import Asking
from framefusion.evaluation.shared_tower import shared_tower

if TYPE_CHECKING:
    from framefusion.evaluation.answers import Yardstick
    from framefusion.inference.answer.checkpoint import Checkpoint

COSTS = (0.5, 0.3, 0.15, 0.08)


def all_methods() -> list[Method]:
    """Every registered method with its default options; those that are controls are left out."""
    return [cls() for name, cls in registered.loaded() if name not in comparison.CONTROLS]


def evaluate_all(
    checkpoint: Checkpoint,
    methods: Sequence[Method] | None = None,
    costs: Sequence[float] = COSTS,
    *,
    controls: Sequence[Method] | None = None,
    samples: int = comparison.SAMPLES,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
    kinds: Sequence[str] | None = None,
    calibrated: bool = False,
    asking: Asking | None = None,
    records: Records | Path | None = None,
    yardstick: Yardstick | None = None,
    watch: Watcher | None = None,
) -> Evaluation:
    """Answer the same questions dense, with every method and with controls, and compare each method with each control.

    Args are those of `evaluate`. methods: None for all that are registered. The vision tower runs once for all arms, so
    times are without it. A method that this model cannot run is left out, and a note says why.

    Returns an evaluation whose entries of methods also have the milliseconds of their decision.

    Raises OptionError and RecordsError as `evaluate` does.
    """
    ground = yardstick or comparison.default_yardstick()
    tested = all_methods() if methods is None else list(checked_methods(list(methods), "an evaluation"))
    controls = comparison.chosen_controls(controls)
    costs = checked("costs", tuple[Share, ...], costs, "0.3 reads 30 % of the tokens")
    chosen = comparison.Chosen(ground, comparison.chosen_kinds(kinds, ground), samples, seed, part)
    asking = replace(checked("asking", Asking | None, asking) or Asking(), share_tower=True)
    watch = watch or comparison.nobody
    context = ComparisonContext(checkpoint, asking, fingerprint.of_checkpoint(checkpoint), watch, chosen.setup())
    store, probes = comparison.store_of(records, context), chosen.probes(context)
    if calibrated:
        tested = context.calibrated(tested, probes)
    with shared_tower(checkpoint.model):
        parts: list[tuple[Role, Method]] = [*(("method", one) for one in tested), *(("control", c) for c in controls)]
        contenders = _contenders(context, parts, costs, probes)
    if not any(one.role == "method" for one in contenders):
        raise OptionError("no method runs on this model", "; ".join(context.notes))
    return comparison.answered(context, contenders, chosen, store)


def _contenders(
    context: ComparisonContext, parts: Sequence[tuple[Role, Method]], costs: Sequence[float], probes: Sequence[Any]
) -> list[Contender]:
    """Every method that runs here, at every cost."""
    found: list[Contender] = []
    labels = comparison.labels_of([one for _, one in parts])
    for number, ((role, one), label) in enumerate(zip(parts, labels, strict=True)):
        context.watch("matching costs", number, len(parts))
        try:
            found += [_contender(context, role, one, label, cost, probes) for cost in costs]
        except FrameFusionError as error:
            if role == "control":
                raise
            context.notes.append(f"{name_of(one)} is left out: {error.what}")
    return found


def _contender(
    context: ComparisonContext, role: Role, method: Method, label: str, cost: float, probes: Sequence[Any]
) -> Contender:
    matched = context.matched(method, cost, probes)
    if role == "method" and all(stage.stream in ("pixels", "vision") for stage in matched.stages()):
        _check_prompt(context, matched, probes)
    return Contender(label, context.arm(matched), role, cost, decision_ms(context.checkpoint.model, matched, probes))


def _check_prompt(context: ComparisonContext, method: Method, probes: Sequence[Any]) -> None:
    """Raises OptionError for a method of the vision tower that leaves the prompt of this model as it is."""
    if cost_of(context.checkpoint.model, method, probes, context.checkpoint.processor) == 1:
        raise OptionError(
            f"the language model reads every visual token behind {method.facts.title}",
            "it spares the vision tower alone on this model, which no equivalent cost counts",
            "put it in front of another method with `--tower`",
        )
