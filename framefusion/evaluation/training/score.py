"""How a trained reducer scores: on drawn questions beside controls of the same cost, else on examples kept aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.evaluation.context import Watcher
    from framefusion.evaluation.training.course import Course
    from framefusion.evaluation.training.settings import Settings
    from framefusion.inference.answer.checkpoint import Checkpoint

BATCH = 8
ANSWER_TOKENS = 16


def score(
    checkpoint: Checkpoint, method: Method, course: Course, settings: Settings, frames: int, watch: Watcher
) -> dict[str, Any]:
    """Accuracies and costs by name, with how many questions they are of."""
    if course.held_out:
        return _on_examples(checkpoint, method, course, settings, frames, watch)
    from framefusion.evaluation.comparison import evaluate
    from framefusion.evaluation.records import Records
    from framefusion.evaluation.runner import Asking

    found = evaluate(
        checkpoint,
        method,
        None,
        samples=max(settings.score, 12),
        seed=settings.score_seed,
        asking=Asking(BATCH),
        records=Records(None),
        watch=watch,
    )
    scores = {"dense": found.dense, **{entry.label: entry.score for entry in found.entries}}
    return {
        "questions": max(settings.score, 12),
        "seed": settings.score_seed,
        **{name: {"accuracy": one.accuracy.value, "cost": one.cost} for name, one in scores.items()},
    }


def _on_examples(
    checkpoint: Checkpoint, method: Method, course: Course, settings: Settings, frames: int, watch: Watcher
) -> dict[str, Any]:
    from framefusion.inference.answer.batch import ask_rows
    from framefusion.inference.answer.prompt import build_prompt

    examples = course.held_out[: settings.score]
    right: dict[str, float] = {}
    costs: list[float] = []
    for number, example in enumerate(examples):
        watch("scoring", number, len(examples))
        prompt = build_prompt(checkpoint, example.clip(frames), example.question)
        for name, way in (("dense", None), (method.facts.name, method)):
            (answer,) = ask_rows(checkpoint, [prompt], way, ANSWER_TOKENS)
            right[name] = right.get(name, 0.0) + (_plain(answer.text) == _plain(example.answer)) / len(examples)
            costs += [] if way is None else [answer.cost]
    mean = {"dense": 1.0, method.facts.name: sum(costs) / len(costs)}
    return {"questions": len(examples), **{n: {"accuracy": right[n], "cost": mean[n]} for n in right}}


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
