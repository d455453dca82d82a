"""What a vision tower knows about its pictures, by hand: from the stock eager attention and from plain loops."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.tiny import FAMILIES, redraw

MERGED = 4
WINDOW = 2


def tower_of(model: Any) -> Any:
    return next(getattr(model.model, name) for name in ("visual", "vision_tower") if hasattr(model.model, name))


def projector_of(model: Any) -> Any:
    tower = tower_of(model)
    return tower.merger if hasattr(tower, "merger") else model.model.multi_modal_projector


def siglip_with_head(seed: int = 0) -> Any:
    """LLaVA-OneVision whose tower keeps SigLIP's pooling head."""
    import transformers as hf

    family = FAMILIES["llava_onevision"]
    config = family.config(4)
    config.vision_config.vision_use_head = True
    model = getattr(hf, family.model_class)._from_config(config, attn_implementation="eager")
    redraw(model, seed)
    model.generation_config.eos_token_id = None
    return model.eval()


@dataclass
class Run:
    """One run of a tower: per layer the attention calls (query, key, weights), the projector's input, the grid."""

    grid: Any = None
    layers: list[list[tuple[Tensor, Tensor, Tensor]]] = field(default_factory=list)
    modules: list[int] = field(default_factory=list)
    features: Any = None
    pooled: Any = None


@contextmanager
def observed(model: Any) -> Iterator[list[Run]]:
    """Every run of the tower of a model built with eager attention, images before videos."""
    tower, runs, handles = tower_of(model), [], []
    handles.append(
        tower.register_forward_pre_hook(lambda m, a, k: runs.append(Run(k.get("grid_thw"))), with_kwargs=True)
    )
    handles.append(projector_of(model).register_forward_pre_hook(lambda m, a: setattr(runs[-1], "features", a[0])))
    for head in (module for module in tower.modules() if hasattr(module, "probe")):
        handles.append(head.register_forward_pre_hook(lambda m, a: setattr(runs[-1], "pooled", a[0])))
    inside = {id(module) for module in tower.modules()}
    files = {type(module).__module__ for module in tower.modules()}
    with pytest.MonkeyPatch.context() as patch:
        for name in files:
            stock = getattr(sys.modules[name], "eager_attention_forward", None)
            if stock is not None:
                patch.setattr(sys.modules[name], "eager_attention_forward", _noting(stock, inside, runs))
        yield runs
    for handle in handles:
        handle.remove()


def _noting(stock: Any, inside: set[int], runs: list[Run]) -> Any:
    def eager(module: Any, query: Tensor, key: Tensor, *others: Any, **options: Any) -> Any:
        output, weights = stock(module, query, key, *others, **options)
        if id(module) in inside:
            run = runs[-1]
            if not run.modules or run.modules[-1] != id(module):
                run.modules.append(id(module))
                run.layers.append([])
            run.layers[-1].append((query, key, weights))
        return output, weights

    return eager


def flat(states: Tensor) -> Tensor:
    """(H, P, d) -> (P, H * d)"""
    return torch.stack([torch.cat(list(states[:, patch])) for patch in range(states.shape[1])])


def headless_weights(query: Tensor, key: Tensor) -> Tensor:
    """(H, P, d) each -> (P, P)"""
    left, right = flat(query), flat(key)
    return torch.softmax(left @ right.T / left.shape[1] ** 0.5, -1)


def pictures_of(run: Run, layer: int) -> list[dict[str, Tensor]]:
    """Per picture: received (P,), received_headless (P,), keys (P, C), in reading order of the prompt's tokens, and

    cls, cls_headless where the first token is one.
    """
    calls = run.layers[layer]
    if run.grid is None:
        return [_single(query, key, weights) for query, key, weights in zip(*calls[0], strict=True)]
    return _in_sequence(run, calls)


def _single(query: Tensor, key: Tensor, weights: Tensor) -> dict[str, Tensor]:
    plain, headless = weights.mean(0), headless_weights(query, key)
    return {
        "received": plain.mean(0),
        "received_headless": headless.mean(0),
        "cls": plain[0, 1:],
        "cls_headless": headless[0, 1:],
        "keys": flat(key),
    }


def _in_sequence(run: Run, calls: list[tuple[Tensor, Tensor, Tensor]]) -> list[dict[str, Tensor]]:
    """Towers that read all patches in one sequence, cut into frames or windows."""
    rows: dict[str, list[Tensor]] = {"received": [], "received_headless": [], "keys": []}
    for query, key, weights in calls:
        # Queries of other windows pay nothing.
        rows["received"] += list(weights[0].mean(0).sum(0))
        rows["received_headless"] += list(headless_weights(query[0], key[0]).sum(0))
        rows["keys"] += list(flat(key[0]))
    return _sorted_out(run, rows)


def _sorted_out(run: Run, rows: dict[str, list[Tensor]]) -> list[dict[str, Tensor]]:
    windowed = len(run.layers[0]) > len(run.layers[-1])
    found, first = [], 0
    for frames, height, width in run.grid.tolist():
        for _ in range(frames):
            tokens = window_order(height // 2, width // 2) if windowed else list(range(height * width // MERGED))
            picture = {}
            for name, values in rows.items():
                patches: list[Any] = [None] * (height * width)
                for place, token in enumerate(tokens):
                    for part in range(MERGED):
                        patches[token * MERGED + part] = values[first + place * MERGED + part]
                picture[name] = torch.stack(patches)
                if name != "keys" and name != "features":
                    picture[name] = picture[name] / (height * width)
            found.append(picture)
            first += height * width
    return found


def window_order(rows: int, columns: int) -> list[int]:
    """Tokens of a frame window by window, both in reading order."""
    order = []
    for top in range(0, rows, WINDOW):
        for left in range(0, columns, WINDOW):
            for row in range(top, min(top + WINDOW, rows)):
                order += [row * columns + column for column in range(left, min(left + WINDOW, columns))]
    return order


def features_of(run: Run) -> list[Tensor]:
    """(P, C) per picture, what goes into the projector."""
    if run.grid is None:
        return list(run.features)
    return [picture["features"] for picture in _sorted_out(run, {"features": list(run.features.flatten(0, -2))})]


def pooling_weights(run: Run, model: Any) -> list[Tensor]:
    """(P,) per picture: attention of SigLIP's pooling query, heads one by one."""
    head = next(module for module in tower_of(model).modules() if hasattr(module, "probe"))
    attention = head.attention
    width = attention.embed_dim
    query = head.probe[0] @ attention.in_proj_weight[:width].T + attention.in_proj_bias[:width]
    found = []
    for hidden in run.pooled:
        key = hidden @ attention.in_proj_weight[width : 2 * width].T + attention.in_proj_bias[width : 2 * width]
        size, total = width // attention.num_heads, torch.zeros(hidden.shape[0])
        for start in range(0, width, size):
            part = slice(start, start + size)
            total += torch.softmax(query[0, part] @ key[:, part].T / size**0.5, -1)
        found.append(total / attention.num_heads)
    return found


def as_tokens(values: Tensor, count: int, grouped: bool) -> Tensor:
    """Values of patches (P, ...) -> of tokens (count, ...), each the mean of its 2 x 2 patches."""
    if values.shape[0] == count:
        return values
    if grouped:
        return torch.stack([values[MERGED * token : MERGED * (token + 1)].mean(0) for token in range(count)])
    side, small = round(values.shape[0] ** 0.5), round(count**0.5)
    found = []
    for row in range(small):
        for column in range(small):
            corners = [(2 * row + down) * side + 2 * column + right for down in (0, 1) for right in (0, 1)]
            found.append(values[corners].mean(0))
    return torch.stack(found)
