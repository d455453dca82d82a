"""The card beside the weights: what was trained, on what, and how it scores."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from framefusion.core.destination import replacing
from framefusion.core.reducer_files import CARD

if TYPE_CHECKING:
    from framefusion.evaluation.training.result import Training
    from framefusion.evaluation.training.settings import Settings


def write_card(done: Training, what: dict[str, Any], settings: Settings) -> None:
    """Write README.md into the folder of the training."""
    with replacing(done.folder / CARD) as file:
        file.write(card(done, what, settings).encode())


def card(done: Training, what: dict[str, Any], settings: Settings) -> str:
    """The text of the card."""
    facts = done.method.facts
    known = {"model": what["model"], "data": what["data"], **asdict(settings), "numbers trained": done.trainable}
    lines = [f"# {facts.title} for {what['model']}", "", facts.summary[0].upper() + facts.summary[1:] + ".", ""]
    lines += ["| training | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in known.items()), ""]
    lines += ["Options: " + ", ".join(f"`{k}={v}`" for k, v in done.method.options().items()) + ".", ""]
    if done.losses:
        (first, begin), (last, end) = done.losses[0], done.losses[-1]
        lines += [f"Loss {begin:.3f} at step {first}, {end:.3f} at step {last}.", ""]
    rows = {name: entry for name, entry in done.scores.items() if isinstance(entry, dict)}
    if rows:
        seed = f" of seed {done.scores['seed']}" if "seed" in done.scores else ""
        lines += [
            f"Right answers to {done.scores['questions']} questions{seed}, and the visual tokens a layer reads:",
            "",
        ]
        lines += ["| | right | cost |", "| --- | ---: | ---: |"]
        lines += [f"| {name} | {row['accuracy']:.1%} | {row['cost']:.3f} |" for name, row in rows.items()]
        lines.append("")
    return "\n".join(lines)
