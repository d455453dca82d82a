"""Adapters of the model's decoder, trained by PEFT around it, and as part of a reducer afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from framefusion.core.adapter import Adapter
from framefusion.core.errors import MissingPackageError
from framefusion.engine.model.parts import find_parts

if TYPE_CHECKING:
    from torch import nn

    from framefusion.evaluation.training.settings import Settings
    from framefusion.inference.answer.checkpoint import Checkpoint

# Linear layers of an attention, as nearly all decoders name them.
ATTENTION = r".*\b(q_proj|k_proj|v_proj|o_proj)"
NAME = "default"


@contextmanager
def adapted(checkpoint: Checkpoint, settings: Settings) -> Iterator[tuple[nn.Module, Checkpoint]]:
    """The model with adapters, if they are asked for, and the checkpoint that answers with them."""
    if not settings.lora:
        yield checkpoint.model, checkpoint
        return
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingPackageError("--lora needs the package peft", hint="pip install 'framefusion[peft]'") from error
    import torch

    from framefusion.inference.quantization.select import all_linear_layers

    attention = settings.lora_on == "attention"
    targets = ATTENTION if attention else list(all_linear_layers(checkpoint.model, tower=False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = get_peft_model(checkpoint.model, LoraConfig(r=settings.lora, target_modules=targets))
    try:
        yield model, replace(checkpoint, model=model.get_base_model())
    finally:
        model.unload()


def adapter_of(model: nn.Module) -> Adapter | None:
    """What PEFT trained in `model`; None where it trained nothing."""
    factors, scale = {}, 1.0
    for name, module in find_parts(model).model.named_modules():
        if NAME in getattr(module, "lora_A", ()):
            down, up = (getattr(module, part)[NAME].weight.detach().clone() for part in ("lora_A", "lora_B"))
            factors[name], scale = (down, up), module.scaling[NAME]
    return Adapter(factors, scale) if factors else None
