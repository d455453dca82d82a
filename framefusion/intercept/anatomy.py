"""Find the parts of a Hugging Face model that a reduction touches, and refuse models it cannot serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framefusion.errors import CompiledModelError, UnsupportedModelError

if TYPE_CHECKING:
    from torch import nn

# The norm whose input is the residual stream between attention and MLP. Sandwich blocks (Gemma) have both names, and
# there only the first one reads the residual itself.
MLP_NORMS = ("pre_feedforward_layernorm", "pre_mlp_layernorm", "post_attention_layernorm", "ffn_norm")
ATTENTIONS = ("self_attn", "attention", "attn")
INNER = ("model", "decoder")
SUPPORTED = "`framefusion models` lists what is supported"
RECURRENT = ("linear_attention", "conv", "mamba", "recurrent")


@dataclass(frozen=True)
class Block:
    """One decoder layer.

    mlp_norm: module between attention and MLP that reads the residual stream, None where the block has no such place.
    attention: its attention module, None in recurrent layers.
    """

    layer: nn.Module
    mlp_norm: nn.Module | None
    attention: nn.Module | None


@dataclass(frozen=True)
class Anatomy:
    """Parts of one model.

    model: the outermost transformers model, wrappers such as PEFT taken off.
    entries: modules whose forward takes `input_ids` together with pixels, outermost first.
    decoder: the module that runs the layers.
    """

    model: Any
    entries: tuple[nn.Module, ...]
    decoder: Any
    blocks: tuple[Block, ...]

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def decoder_config(self) -> Any:
        return self.decoder.config


def dissect(model: nn.Module) -> Anatomy:
    """Raises UnsupportedModelError or CompiledModelError when the model cannot be reduced."""
    _refuse_compiled(model)
    inner = _unwrap(model)
    decoder = _decoder(inner)
    layers = getattr(decoder, "layers", None)
    if layers is None or len(layers) == 0:
        raise UnsupportedModelError(
            f"{type(inner).__name__} cannot be reduced",
            "its decoder has no list of layers",
            SUPPORTED,
        )
    blocks = tuple(_block(layer, kind) for layer, kind in zip(layers, _layer_kinds(decoder, len(layers)), strict=True))
    if all(block.attention is None for block in blocks):
        raise UnsupportedModelError(
            f"{type(inner).__name__} cannot be reduced", "its decoder has no attention layer", SUPPORTED
        )
    return Anatomy(inner, tuple(_entries(inner, decoder)), decoder, blocks)


def _refuse_compiled(model: Any) -> None:
    for module in model.modules() if hasattr(model, "modules") else ():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise CompiledModelError(
                f"{type(model).__name__} is compiled",
                "torch.compile ignores hooks that are added after it",
                "load the model again and do not compile it",
            )


def _unwrap(model: nn.Module) -> nn.Module:
    get_base = getattr(model, "get_base_model", None)
    return get_base() if callable(get_base) else model


def _decoder(model: Any) -> Any:
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be reduced",
            "it is an encoder-decoder: visual tokens are read through cross-attention, not as part of the prompt",
            SUPPORTED,
        )
    if not hasattr(model, "get_decoder"):
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be reduced",
            "it is not a transformers model with a decoder (`get_decoder`)",
            "pass the model that `AutoModelForImageTextToText.from_pretrained` returns",
        )
    decoder = model.get_decoder()
    return _text_model(model if decoder is None else decoder)


def _text_model(module: Any) -> Any:
    """Models whose code comes with their checkpoint hold a whole causal language model and name it as they like."""
    from transformers import GenerationMixin

    while getattr(module, "layers", None) is None:
        named = (getattr(module, name, None) for name in INNER)
        own = module.get_decoder() if hasattr(module, "get_decoder") else None
        whole = (child for child in module.children() if isinstance(child, GenerationMixin))
        inner = next((part for part in (own, *named, *whole) if part is not None and part is not module), None)
        if inner is None:
            break
        module = inner
    return module


def _layer_kinds(decoder: nn.Module, count: int) -> list[str]:
    kinds = getattr(decoder.config, "layer_types", None) or []
    return list(kinds[:count]) + ["full_attention"] * (count - len(kinds))


def _block(layer: nn.Module, kind: str) -> Block:
    children = dict(layer.named_children())
    norm = next((children[name] for name in MLP_NORMS if name in children), None)
    attention = next((children[name] for name in ATTENTIONS if name in children), None)
    if any(word in kind for word in RECURRENT):
        attention = None
    return Block(layer, norm, attention)


def _entries(model: nn.Module, decoder: nn.Module) -> Iterator[nn.Module]:
    """The chain of transformers models from the outermost one down to the decoder, decoder excluded."""
    from transformers import PreTrainedModel

    for module in model.modules():
        holds_decoder = any(child is decoder for child in module.modules())
        if module is not decoder and isinstance(module, PreTrainedModel) and holds_decoder:
            yield module
