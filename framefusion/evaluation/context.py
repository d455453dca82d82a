"""What all arms of one comparison share: the model, how it is asked, and what has been noted so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from framefusion.evaluation import fingerprint
from framefusion.evaluation.cells import Cell, name_of, options_of
from framefusion.evaluation.equal_cost import at_cost, is_far
from framefusion.evaluation.runner import Arm, Asking
from framefusion.inference.quantization.attention import check_rows

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.quantization.precision import Precision

Watcher = Callable[[str, int, int], None]


@dataclass
class ComparisonContext:
    """weights: fingerprint of the checkpoint. watch: called with (what is being done, steps done, steps in all).

    setup: what the yardstick says is different about answers to its questions.

    Raises AttentionError for a batch that the checkpoint's attention cannot answer.
    """

    checkpoint: Checkpoint
    asking: Asking
    weights: str
    watch: Watcher
    setup: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_rows([self.checkpoint.precision], self.asking.batch)

    def arm(self, method: Method | None, precision: Precision | None = None) -> Arm:
        """precision: how the model is quantised for this arm alone."""
        method = None if method is None else method.for_family(self.checkpoint.family)
        varied = {**self.setup, **({} if precision is None else {"quantize": str(precision)})}
        return Arm(cell_of(self.checkpoint, method, self.asking, self.weights, varied), method, precision)

    def calibrated(self, methods: Sequence[Method], probes: Sequence[Any]) -> list[Method]:
        """Methods whose similarity threshold is open get the one the calibration rule finds on the probes."""
        from framefusion.evaluation.calibration import calibrate

        self.watch("calibrating", 0, 1)
        threshold = round(calibrate(self.checkpoint.model, probes), 4)
        self.notes.append(f"similarity_lower_bound={threshold:g}, calibrated on {len(probes)} clips of another seed")
        return [_with_threshold(method, threshold) for method in methods]

    def matched(self, method: Method, target: float, probes: Sequence[Any]) -> Method:
        """`method` with the budget that costs `target` on the probes, or comes nearest; says so if that is far."""
        found, cost = at_cost(self.checkpoint.model, method, target, probes, self.checkpoint.processor)
        if is_far(cost, target):
            self.notes.append(f"{name_of(found)} costs {cost:.3f} where {target:g} was asked for: it comes no nearer")
        return found


def cell_of(
    checkpoint: Checkpoint, method: Method | None, asking: Asking, weights: str, varied: dict[str, Any] | None = None
) -> Cell:
    """The cell of `method`, its options filled in, on a loaded checkpoint. varied: whatever else a study changes."""
    model, config = checkpoint.model, checkpoint.model.config
    setup = {
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "attention": getattr(config, "_attn_implementation", None),
        "new_tokens": asking.new_tokens,
        "choices_named": asking.names_choices(checkpoint),
        **({} if checkpoint.precision is None else {"quantize": str(checkpoint.precision)}),
        **({"tower": "shared"} if asking.share_tower else {}),
        **(varied or {}),
    }
    versions = fingerprint.versions(method)
    return Cell(checkpoint.name, weights, name_of(method), options_of(method), setup, versions)


def _with_threshold(method: Method, threshold: float) -> Method:
    if getattr(method, "similarity_lower_bound", threshold) is not None:
        return method
    return replace(method, similarity_lower_bound=threshold)  # type: ignore[type-var]
