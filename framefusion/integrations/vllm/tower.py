"""Attention of the last layers of a vision tower that encodes every frame by itself, as methods want to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import MissingSignalError, OptionError
from framefusion.core.method import VisionSignals
from framefusion.core.ops.attention import attention_map, received_attention
from framefusion.core.ops.grid import to_tokens
from framefusion.core.registry import method as method_class

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.integrations.vllm.settings import Settings

WATCHED_LAYERS = 2


@dataclass(frozen=True)
class Layer:
    """One attention layer's last call. query, key: (frames, H, P, d)."""

    query: Tensor
    key: Tensor
    scale: float


def attentions(tower: nn.Module) -> list[nn.Module]:
    """The tower's attention layers, first to last."""
    return [module for name, module in tower.named_modules() if name.endswith(".attn") and hasattr(module, "scale")]


def absent_layers(config: Any) -> int:
    """Layers behind the one whose features the model takes, which the engine does not build."""
    chosen, layers = getattr(config, "vision_feature_layer", -1), config.vision_config.num_hidden_layers
    deepest = max(number if number >= 0 else layers + number + 1 for number in _listed(chosen))
    return layers - deepest


def check_layer(settings: Settings, config: Any) -> None:
    """Raises OptionError where a method reads attention of a layer that is not built."""
    layer = settings.options.get("tower_layer", getattr(method_class(settings.method), "tower_layer", -1))
    if layer + absent_layers(config) >= 0:
        raise OptionError(
            f"`{settings.method}` cannot read layer {layer} of this vision tower",
            f"features come from layer {config.vision_feature_layer}, and vLLM builds none behind it",
            "choose an earlier tower_layer, or another method",
        )


class Watch:
    """Keeps queries and keys of a tower's last layers. Every call of the tower replaces what was kept before.

    class_token: one stands in front of the patches. absent: layers of the checkpoint that are not built.
    """

    def __init__(self, tower: nn.Module, class_token: bool, absent: int) -> None:
        self.class_token, self._absent = class_token, absent
        inner = attentions(tower)
        if len(inner) < WATCHED_LAYERS:
            raise MissingSignalError("this vision tower shows no attention", "its layers are built in another way")
        self._layers: list[Layer | None] = [None] * WATCHED_LAYERS
        watched: Any = inner[-WATCHED_LAYERS:]
        for place, module in enumerate(watched):
            module.register_forward_pre_hook(self._keep(place))

    def _keep(self, place: int) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            query, key = (_by_head(states.detach(), module.num_heads) for states in args[:2])
            self._layers[place] = Layer(query, key, module.scale)

        return hook

    def take(self, items: Sequence[tuple[int, int, bool]]) -> list[VisionSignals]:
        """Signals of the items just encoded, each (pictures encoded, tokens of each, whether a newline follows)."""
        layers, self._layers = self._layers, [None] * WATCHED_LAYERS
        seen, done = [], 0
        for frames, tokens, newline in items:
            part = slice(done, done + frames)
            done += frames
            seen.append(self._signals(layers, part, tokens, newline))
        return seen

    def _signals(self, layers: Sequence[Layer | None], part: slice, tokens: int, newline: bool) -> VisionSignals:
        def spread(pieces: list[Tensor]) -> Tensor:
            found = [to_tokens(piece, tokens, grouped=False) for piece in pieces]
            if any(piece is None for piece in found):
                raise MissingSignalError(f"{tokens} tokens of a frame cannot be found among its patches")
            whole = torch.cat([piece for piece in found if piece is not None])
            return torch.cat([whole, whole.new_zeros(1, whole.shape[1])]) if newline else whole

        def seen(number: int) -> Layer:
            return _seen(layers[number + self._absent] if number + self._absent < 0 else None)

        def saliency(number: int, headless: bool) -> Tensor:
            layer = seen(number)
            frames = zip(layer.query[part], layer.key[part], strict=True)
            return spread([self._score(*states, layer.scale, headless)[:, None] for states in frames])[:, 0]

        def keys(number: int) -> Tensor:
            first = int(self.class_token)
            return spread([key.transpose(0, 1).flatten(1)[first:].float() for key in seen(number).key[part]])

        def features() -> Tensor:
            raise MissingSignalError("a serving engine does not show what enters the projector")

        return VisionSignals("cls" if self.class_token else "received", saliency, keys, features)

    def _score(self, query: Tensor, key: Tensor, scale: float, headless: bool) -> Tensor:
        """(P,) attention of the class token, or received from all patches where there is none."""
        if headless:
            query, key = (states.transpose(0, 1).flatten(1)[None] for states in (query, key))
            scale = query.shape[-1] ** -0.5
        if not self.class_token:
            return received_attention(query, key, scale)
        everything = torch.ones(1, key.shape[1], dtype=torch.bool, device=key.device)
        return attention_map(query[:, :1], key, everything, scale).mean((0, 1))[1:]


def _by_head(states: Tensor, heads: int) -> Tensor:
    """(B, P, H * d) -> (B, H, P, d)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _listed(chosen: int | Sequence[int]) -> Sequence[int]:
    return [chosen] if isinstance(chosen, int) else chosen


def _seen(layer: Layer | None) -> Layer:
    if layer is None:
        raise MissingSignalError("the vision tower did not run for this item")
    return layer
