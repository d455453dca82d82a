"""What learns: the projector, and adapters of the language model; and what it learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from framefusion.evaluation.training.examples import IGNORED
from training.pretrained.packing import Words, collate, mask_of, pack
from training.pretrained.questions import Question

ADAPTED = r".*language_model.*\b(q_proj|k_proj|v_proj|o_proj)"


class Projector(nn.Module):
    """LLaVA's projector between features of mean zero and spread one, and embeddings of the language model's size."""

    mean: torch.Tensor
    spread: torch.Tensor
    size: torch.Tensor

    def __init__(self, width: int, to: int, mean: torch.Tensor, spread: torch.Tensor, size: float) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, to), nn.Linear(to, to)
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.register_buffer("size", torch.tensor(size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = self.linear_1((features.float() - self.mean) / self.spread)
        return self.linear_2(nn.functional.gelu(inner)) * self.size

    @torch.no_grad()
    def fold_into(self, projector: Any) -> None:
        """Give LLaVA's own projector the same function, without the shifts and scales around it."""
        first = self.linear_1.weight / self.spread
        projector.linear_1.weight.copy_(first)
        projector.linear_1.bias.copy_(self.linear_1.bias - first @ self.mean)
        projector.linear_2.weight.copy_(self.linear_2.weight * self.size)
        projector.linear_2.bias.copy_(self.linear_2.bias * self.size)


class Learner(nn.Module):
    """Projector and adapters as one module: only they are saved. The model around them is called, but no part of it."""

    def __init__(self, model: Any, projector: Projector) -> None:
        super().__init__()
        self._around = (model,)
        self.projector = projector
        adapters = {name.replace(".", "/"): weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.adapters = nn.ParameterDict(adapters)

    def logits(self, ids: Any, segment: Any, position: Any, labels: Any, features: Any) -> torch.Tensor:
        """(R, V) where a label is, row by row."""
        (model,) = self._around
        embedded = model.get_input_embeddings()(ids)
        shown = self.projector(features).to(embedded.dtype)
        embedded = embedded.masked_scatter((ids == model.config.image_token_id)[..., None], shown)
        hidden = model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=mask_of(segment, embedded.dtype),
            position_ids=position,
            use_cache=False,
        ).last_hidden_state
        return model.lm_head(hidden[labels != IGNORED]).float()

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        wanted = batch["labels"][batch["labels"] != IGNORED]
        return {"loss": nn.functional.cross_entropy(self.logits(**batch), wanted)}


def new_learner(model: Any, moments: tuple[torch.Tensor, torch.Tensor], lora: int, seed: int) -> tuple[Learner, Any]:
    """A learner for a frozen model, and the model with adapters of rank `lora`, which is the model itself for 0."""
    model.requires_grad_(False)
    size = float(model.get_input_embeddings().weight.float().std())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = Projector(len(moments[0]), model.config.text_config.hidden_size, *moments, size)
        adapted = _adapted(model, lora) if lora else model
    return Learner(model, projector), adapted


def _adapted(model: Any, lora: int) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=lora, lora_alpha=2 * lora, target_modules=ADAPTED))


class Lessons(Dataset):
    """Scenes with some of the questions about each, as batches' rows; the same for the same number.

    features: (scenes, T, N, D), as kept on disk. asked: the questions about each scene. most: of them in a row.
    """

    device = torch.device("cpu")
    ordered = False

    def __init__(
        self, words: Words, features: np.ndarray, asked: Sequence[list[Question]], most: int, count: int, seed: int = 0
    ) -> None:
        self.words, self.features, self.asked = words, features, asked
        self.most, self.count, self.seed = most, count, seed

    @property
    def collate(self) -> Callable[[Sequence[Any]], dict[str, Any]]:
        return collate

    def __len__(self) -> int:
        return self.count

    def chosen(self, number: int) -> list[Question]:
        """The questions of a row."""
        asked = self.asked[number % len(self.asked)]
        order = np.random.default_rng([self.seed, number]).permutation(len(asked))
        return [asked[place] for place in order[: self.most]]

    def __getitem__(self, number: int) -> dict[str, Any]:
        features = torch.from_numpy(np.array(self.features[number % len(self.asked)]))
        row = pack(self.words, len(features), self.chosen(number))
        return {**row, "features": features.flatten(0, 1)}


@torch.no_grad()
def right_by_kind(learner: Learner, lessons: Lessons) -> dict[str, list[int]]:
    """[right, asked] by kind of question: right where every token of the answer is the likeliest one."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for number in range(len(lessons)):
        batch = collate([lessons[number]])
        wanted = batch["labels"] != IGNORED
        hit = learner.logits(**batch).argmax(-1) == batch["labels"][wanted]
        of = batch["segment"][wanted]
        for place, question in enumerate(lessons.chosen(number), 1):
            asked[question.kind] += 1
            right[question.kind] += int(hit[of == place].all())
    return {kind: [right[kind], count] for kind, count in sorted(asked.items())}
