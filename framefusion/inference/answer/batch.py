"""Several prompts answered at once, each row with the numbers that are its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.cache_names import cache_of
from framefusion.inference.answer.answer import generate
from framefusion.inference.quantization.memory import cache_bytes
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint


@dataclass(frozen=True)
class RowAnswer:
    """The answer of one row of a batch.

    confidence: probability of the tokens it wrote. Counts and cost are the row's own; prefill_ms (to the first token,
    vision tower included), ms (to the last) and kv_bytes are the batch's, divided by its rows. patches_share: of the
    batch's patches, those that the vision tower encoded.
    """

    text: str
    confidence: float
    prompt_tokens: int
    visual_tokens: int
    kept_tokens: int
    cost: float
    new_tokens: int
    prefill_ms: float
    ms: float
    kv_bytes: float
    patches_share: float = 1.0


def shape_of(prompt: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Prompts of one shape can be stacked without padding: as many columns, pictures of one kind."""
    return tuple(sorted((name, tuple(value.shape[1:])) for name, value in prompt.items()))


def stack(prompts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One batch from prompts of one shape, each as `build_prompt` returns it.

    Processors put what belongs to several pictures one behind the other, so every input is joined at its first axis.
    """
    return {name: torch.cat([prompt[name] for prompt in prompts]) for name in prompts[0]}


class Prompts(tuple[dict[str, Any], ...]):
    """Prompts of one shape that are asked several times: stacked once, and the same tensors each time."""

    @cached_property
    def inputs(self) -> dict[str, Any]:
        return stack(self)


def ask_rows(
    checkpoint: Checkpoint, prompts: Sequence[dict[str, Any]], method: Method | None, max_new_tokens: int
) -> list[RowAnswer]:
    """Greedy answers to prompts of one shape, in their order."""
    inputs = prompts.inputs if isinstance(prompts, Prompts) else stack(prompts)
    done = generate(checkpoint, inputs, method, max_new_tokens, output_logits=True)
    ids, rows = inputs["input_ids"], len(prompts)
    new = done.output.sequences[:, ids.shape[1] :]
    written = _written(new, checkpoint.model.generation_config.eos_token_id)
    confidence = _confidence(new, done.output.logits, written)
    pictures = torch.tensor(sorted(placeholder_ids(checkpoint.model.config)), device=ids.device)
    visual = torch.isin(ids, pictures).sum(1).tolist()
    last = None if done.report is None else done.report.last
    kept, cost = (visual, [1.0] * rows) if last is None else (last.kept_tokens, last.row_costs)
    share = last.patches / last.patches_dense if last is not None and last.patches_dense else 1.0
    texts = checkpoint.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [
        RowAnswer(
            text=texts[row].strip(),
            confidence=confidence[row],
            prompt_tokens=ids.shape[1],
            visual_tokens=visual[row],
            kept_tokens=kept[row],
            cost=cost[row],
            new_tokens=int(written[row].sum()),
            prefill_ms=done.prefill_ms / rows,
            ms=done.total_ms / rows,
            kv_bytes=cache_bytes(cache_of(done.output)) / rows,
            patches_share=share,
        )
        for row in range(rows)
    ]


def _written(new: Tensor, end: int | Sequence[int] | None) -> Tensor:
    """(B, G) ids -> (B, G) bool: tokens up to and with the first that ends the answer; padding follows."""
    if end is None:
        return torch.ones_like(new, dtype=torch.bool)
    ends = torch.isin(new, torch.as_tensor(end, device=new.device).reshape(-1)).long()
    return ends.cumsum(1) - ends == 0


def _confidence(new: Tensor, logits: Sequence[Tensor], written: Tensor) -> list[float]:
    """Probability of each row's written tokens. logits: G of (B, V)."""
    steps = [
        step.float().log_softmax(-1).gather(1, new[:, place, None]).squeeze(1) for place, step in enumerate(logits)
    ]
    return (torch.stack(steps, 1) * written).sum(1).exp().tolist()
