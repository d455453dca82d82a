"""Find the parts of a Hugging Face model that a reduction touches, and refuse models it cannot serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import CompiledModelError, UnsupportedModelError
from framefusion.engine.model.unsupported import why_not

if TYPE_CHECKING:
    from torch import nn

# The norm whose input is the residual stream between attention and MLP. Sandwich blocks (Gemma) have both names, and
# there only the first one reads the residual itself.
MLP_NORMS = (
    "pre_feedforward_layernorm",
    "pre_mlp_layernorm",
    "post_attention_layernorm",
    "ffn_norm",
    "final_layer_norm",
)
# Post-norm blocks norm what attention and MLP return; the MLP itself reads the residual.
PRE_NORMS = ("input_layernorm", "pre_feedforward_layernorm", "operator_norm")
POST_NORM = "post_feedforward_layernorm"
MLPS = ("mlp", "feed_forward", "block_sparse_moe")
MIXERS = ("_sconv", "_convolution")
ATTENTIONS = ("self_attn", "attention", "attn")
PROJECTORS = ("multi_modal_projector", "connector", "merger")
TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder")
INNER = ("model", "decoder")
THINKER = "thinker"
SUPPORTED = "`framefusion models` lists what is supported"
RECURRENT = ("linear_attention", "conv", "mamba", "recurrent")


@dataclass(frozen=True)
class Block:
    """One decoder layer.

    mlp_norm: module behind the attention that reads the residual stream, None where the block has no such place.
    attention: its attention module, None in recurrent layers.
    key_source: number of the earlier layer whose keys and values it reads, None where it makes its own.
    """

    layer: nn.Module
    mlp_norm: nn.Module | None
    attention: nn.Module | None
    key_source: int | None = None


@dataclass(frozen=True)
class ModelParts:
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


def find_parts(model: nn.Module) -> ModelParts:
    """Raises UnsupportedModelError or CompiledModelError when the model cannot be reduced."""
    _refuse_compiled(model)
    inner = _unwrap(model)
    decoder = _decoder(inner)
    layers = getattr(decoder, "layers", None)
    kinds = [] if layers is None else _layer_kinds(decoder, len(layers))
    reason = why_not(inner, decoder, kinds)
    if reason:
        raise UnsupportedModelError(f"{type(inner).__name__} cannot be reduced", reason, SUPPORTED)
    blocks = _with_key_sources([_block(layer, kind) for layer, kind in zip(layers or (), kinds, strict=True)], kinds)
    if all(block.attention is None for block in blocks):
        raise UnsupportedModelError(
            f"{type(inner).__name__} cannot be reduced", "its decoder has no attention layer", SUPPORTED
        )
    return ModelParts(inner, tuple(_entries(inner, decoder)), decoder, blocks)


def _refuse_compiled(model: Any) -> None:
    for module in model.modules() if hasattr(model, "modules") else ():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise CompiledModelError(
                f"{type(model).__name__} is compiled",
                "torch.compile ignores hooks that are added after it",
                "load the model again and do not compile it",
            )


def _unwrap(model: Any) -> Any:
    """What PEFT wraps; of an omni model the part that reads and answers, since the other one only speaks."""
    get_base = getattr(model, "get_base_model", None)
    inner = get_base() if callable(get_base) else model
    return getattr(inner, THINKER, inner)


def _decoder(model: Any) -> Any:
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
    config = getattr(decoder, "config", None)
    named = [getattr(config, name, None) for name in ("layer_types", "layers_block_type")]
    kinds: list[str] = next((list(kinds) for kinds in named if kinds), [])[:count]
    return kinds + ["full_attention"] * (count - len(kinds))


def _block(layer: nn.Module, kind: str) -> Block:
    children = dict(layer.named_children())
    attention = next((children[name] for name in ATTENTIONS if name in children), None)
    if attention is None and kind == "full_attention":
        attention = children.get("mixer")
    if any(word in kind for word in RECURRENT):
        attention = None
    return Block(layer, _reads_residual(children), attention)


def _with_key_sources(blocks: list[Block], kinds: list[str]) -> tuple[Block, ...]:
    """Layers that share keys read those of the last layer of their kind that makes its own."""
    own: dict[str, int] = {}
    linked = []
    for number, (block, kind) in enumerate(zip(blocks, kinds, strict=True)):
        if getattr(block.attention, "is_kv_shared_layer", False):
            block = replace(block, key_source=own[kind])
        else:
            own[kind] = number
        linked.append(block)
    return tuple(linked)


def _reads_residual(children: dict[str, nn.Module]) -> nn.Module | None:
    """The module behind the attention whose input is the residual stream itself."""
    if any(name.endswith(MIXERS) for name in children):
        return None  # the second half mixes tokens once more, so it cannot stand for itself
    if POST_NORM in children and not any(name in children for name in PRE_NORMS):
        return next((children[name] for name in MLPS if name in children), None)
    return next((children[name] for name in MLP_NORMS if name in children), None)


def _entries(model: nn.Module, decoder: nn.Module) -> Iterator[nn.Module]:
    """The chain of transformers models from the outermost one down to the decoder, decoder excluded."""
    from transformers import PreTrainedModel

    for module in model.modules():
        holds_decoder = any(child is decoder for child in module.modules())
        if module is not decoder and isinstance(module, PreTrainedModel) and holds_decoder:
            yield module


def find_tower(entries: Sequence[nn.Module]) -> Any:
    """The vision tower of a model, None where it has none. entries: modules that may hold it, outermost first."""
    base = tower_holder(entries)
    return next((tower for name in TOWERS if (tower := getattr(base, name, None)) is not None), None)


def find_projector(entries: Sequence[nn.Module]) -> Any:
    """What turns features of the tower into tokens, beside the tower or inside it; None where there is none."""
    places = (dict(part.named_children()) for part in (tower_holder(entries), find_tower(entries)) if part is not None)
    return next((part[name] for part in places for name in PROJECTORS if name in part), None)


def tower_holder(entries: Sequence[nn.Module]) -> nn.Module | None:
    """The innermost module that holds the tower."""
    return next((part for part in reversed(entries) for name in TOWERS if getattr(part, name, None) is not None), None)
