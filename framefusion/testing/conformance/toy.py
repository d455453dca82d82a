"""A tiny random model of one architecture, and prompts for it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.models.layout_rules import lay_runs
from framefusion.models.placeholders import image_token, video_token
from framefusion.testing.conformance.pictures import PICTURES, Pixels, pixels_of
from framefusion.testing.conformance.shrink import FIRST_SPECIAL, WIDTH, name_special_tokens, shrunk
from framefusion.testing.conformance.sizes import SIZES_OF

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.layout import Layout

STD = 0.15
TOKENS = 9
POSITIONS = "image_embeds_position_mask"
BEFORE, BETWEEN, AFTER = 5, 2, 12


def build(model_type: str, class_name: str, attn: str = "eager") -> nn.Module:
    """An eval-mode model of `class_name` whose weights are the same at every call."""
    import transformers
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    config = config_class(**shrunk(config_class, **SIZES_OF.get(model_type, {})))
    name_special_tokens(config)
    # Nobody runs those that cannot be reduced, and some of them have parts no recipe shrinks.
    device = "meta" if config.is_encoder_decoder else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = getattr(transformers, class_name)._from_config(config, attn_implementation=attn)
    if device == "cpu":
        _redraw(model)
    return model.eval()


@torch.no_grad()
def _redraw(model: nn.Module) -> None:
    """Give every weight a size that counts: the stock initialisation leaves outputs nearly blind to inputs."""
    draw = torch.Generator().manual_seed(1)
    for _, weight in sorted(model.named_parameters()):
        if weight.ndim > 1:
            weight.normal_(0.0, STD, generator=draw)
        else:
            weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.1)


@dataclass(frozen=True)
class Toy:
    """A model and what its prompts are made of.

    token: id of a picture's placeholder. named: whether the configuration names it.
    pixels: of the pictures of one row, None where random features stand at the placeholders instead.
    tokens: placeholders per picture.
    """

    model: Any
    token: int
    named: bool
    pixels: Pixels | None = None
    tokens: int = TOKENS

    def prompt(self, padding: Sequence[int] = (0,), answer: Tensor | None = None) -> Prompt:
        """Words, pictures and words, one row for every entry of `padding`: columns of padding on the left.

        answer: (B, M) tokens that follow.
        """
        draw = torch.Generator().manual_seed(2)
        length = BEFORE + PICTURES * self.tokens + (PICTURES - 1) * BETWEEN
        length = _prime_above(length + AFTER)
        rows, real = [], []
        for empty in padding:
            words = torch.randint(10, FIRST_SPECIAL, (length,), generator=draw)
            for picture in range(PICTURES):
                first = BEFORE + picture * (self.tokens + BETWEEN)
                words[first : first + self.tokens] = self.token
            columns = torch.arange(length)
            rows.append(torch.where(columns < empty, 1, words))
            real.append((columns >= empty).long())
        ids, mask = torch.stack(rows), torch.stack(real)
        if answer is not None:
            ids, mask = torch.cat([ids, answer], 1), torch.cat([mask, torch.ones_like(answer)], 1)
        inputs = {"input_ids": ids, "attention_mask": mask}
        kinds = (ids == self.token).long()
        inputs |= {name: kinds for name in ("token_type_ids", "mm_token_type_ids") if _takes(self.model, name)}
        if _takes(self.model, POSITIONS):
            inputs[POSITIONS] = kinds
        if self.pixels is not None:
            inputs |= {name: torch.cat([value] * len(padding)) for name, value in self.pixels.items()}
            return Prompt(inputs, None, self)
        features = torch.randn(int(kinds.sum()) // len(padding), WIDTH, generator=draw).repeat(len(padding), 1)
        return Prompt(inputs, features, self)


@dataclass(frozen=True)
class Prompt:
    """inputs: of the model. features: (n, D) what stands at the n placeholders of the batch, None where pixels do."""

    inputs: dict[str, Tensor]
    features: Tensor | None
    toy: Toy

    @property
    def layout(self) -> Layout | None:
        """What has to be said about the prompt where the model cannot tell."""
        if self.toy.named:
            return None
        return lay_runs(self.inputs["input_ids"], [self.toy.token])

    def row(self, number: int) -> Prompt:
        """One row alone, its padding taken off."""
        real = self.inputs["attention_mask"][number].bool()
        rows = len(self.inputs["input_ids"])
        inputs = {
            name: value[number : number + 1, real]
            if value.shape[:2] == self.inputs["input_ids"].shape
            else value.chunk(rows)[number]
            for name, value in self.inputs.items()
        }
        features = None if self.features is None else self.features.chunk(rows)[number]
        return Prompt(inputs, features, self.toy)


def toy_of(model: Any) -> Toy:
    """Pixels where the model takes one of the shapes tried, random features elsewhere."""
    found = image_token(model.config)
    found = video_token(model.config) if found is None else found
    token, named = FIRST_SPECIAL if found is None else found, found is not None or _takes(model, POSITIONS)
    for pixels, tokens in pixels_of(model):
        toy = Toy(model, token, named, pixels, tokens)
        try:
            with torch.no_grad():
                if bool(model(**toy.prompt().inputs, use_cache=False).logits.isfinite().all()):
                    return toy
        except Exception:
            continue
    return Toy(model, token, named)


def _prime_above(number: int) -> int:
    """A length that no width or count of the model shares."""
    number = max(number, 37)
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number


def _takes(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(type(model).forward).parameters


class spliced:
    """While it lasts, the embedding of each placeholder is a row of the prompt's features instead."""

    def __init__(self, model: Any, given: Prompt) -> None:
        self.model, self.given = model, given

    def __enter__(self) -> None:
        table = self.model.get_input_embeddings()
        self.handle = table.register_forward_hook(self._splice)

    def __exit__(self, *error: object) -> None:
        self.handle.remove()

    def _splice(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        seen = args[0] == self.given.toy.token if args and args[0].ndim == 2 else None
        if seen is None or self.given.features is None or int(seen.sum()) != len(self.given.features):
            return output
        return output.masked_scatter(seen[..., None], self.given.features.to(output))


# Reads pictures, but is loaded by another auto class.
BESIDES = {"phi4_multimodal": "Phi4MultimodalForCausalLM"}


def names() -> Iterator[tuple[str, str]]:
    """(model_type, class name) of every architecture the table is about."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    yield from sorted({**MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, **BESIDES}.items())
