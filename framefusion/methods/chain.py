"""Several methods at once, each at its own points of the model.

Paper: none. Differs from the published code: there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from framefusion.core.errors import OptionError
from framefusion.core.method import Method, MethodFacts, Stage, checked_methods
from framefusion.core.stage import PixelStage, VisionStage

if TYPE_CHECKING:
    from framefusion.core.adapter import Adapter
    from framefusion.core.model_shape import ModelShape
    from framefusion.models.family import Family


@dataclass(frozen=True, init=False, repr=False)
class Chain(Method):
    """Several methods in one reduction: what one method leaves, the next one sees.

    Args:
        members: the methods. They act where each of them says; those with a point in common act there in this order.
            A method that acts in front of the projector does so on embeddings instead if one before it acts on the
            prompt.
        methods: the same as a list, which is what `dataclasses.replace` passes instead of members.

    Raises:
        OptionError: nothing to chain, something that is no method, or a method that acts inside the vision tower behind
            another one.

    Example:
        >>> with ff.reduce(model, ff.Chain(ff.DivPrune(keep=0.5), ff.FastV(keep=0.5, layer=2))) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> [(step.method, step.tokens_in, step.tokens_out) for step in reduction.report.steps]
        [('divprune', 512, 256), ('fastv', 256, 128)]
    """

    methods: tuple[Method, ...]

    def __init__(self, *members: Method, methods: Sequence[Method] = ()) -> None:
        """methods: what `dataclasses.replace` passes instead of members."""
        methods = checked_methods(members or methods, "a chain")
        if not methods:
            raise OptionError("a chain needs at least one method", hint="write Chain(PruMerge(), FastV(layer=2))")
        object.__setattr__(self, "methods", methods)
        object.__setattr__(self, "facts", _facts(methods))
        if any(isinstance(stage, VisionStage | PixelStage) for stage in self.stages()[1:]):
            raise OptionError(
                "what acts inside the vision tower, or in front of it, acts before everything else",
                "plans run in the order of the chain",
                "put that method first, and only one of the kind",
            )

    def stages(self) -> tuple[Stage, ...]:
        stages = tuple(stage for method in self.methods for stage in method.stages())
        if stages and isinstance(stages[0], PixelStage) and stages[0].blend is None:
            blend = not any(method.facts.merges for method in self.methods[1:])
            return (replace(stages[0], blend=blend), *stages[1:])
        return stages

    def adapters(self) -> tuple[Adapter, ...]:
        return tuple(adapter for method in self.methods for adapter in method.adapters())

    def stage_names(self) -> tuple[str, ...]:
        return tuple(name for method in self.methods for name in method.stage_names())

    @property
    def weighs(self) -> bool:
        return any(method.weighs for method in self.methods)

    def with_weight(self, weighs: bool) -> Chain:
        return Chain(*(method.with_weight(weighs) for method in self.methods))

    def with_budget(self, value: float) -> Chain:
        """The same chain, its last method at another budget.

        Args:
            value: of the option that is the budget of the last method.

        Raises:
            OptionError: that method has no budget.
        """
        return Chain(*self.methods[:-1], self.methods[-1].with_budget(value))

    def for_family(self, family: Family) -> Chain:
        return Chain(*(method.for_family(family) for method in self.methods))

    def check_model(self, shape: ModelShape) -> None:
        for method in self.methods:
            method.check_model(shape)

    def notes(self, family: Family) -> list[str]:
        return list(dict.fromkeys(note for method in self.methods for note in method.notes(family)))

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.methods))})"


def _facts(methods: tuple[Method, ...]) -> MethodFacts:
    facts = [method.facts for method in methods]
    return MethodFacts(
        name="+".join(fact.name for fact in facts),
        title=" + ".join(fact.title for fact in facts),
        paper="",
        summary="; then ".join(fact.summary for fact in facts),
        stage="; then ".join(fact.stage for fact in facts),
        query_aware=any(fact.query_aware for fact in facts),
        count="geometry" if all(fact.count == "geometry" for fact in facts) else "data",
        merges=any(fact.merges for fact in facts),
        budget="",
        identity={},
    )
